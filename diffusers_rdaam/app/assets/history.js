// A button of the history opens its image.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-number]");
  if (button) trigger("choose", { number: Number(button.dataset.number) });
});
