// What a notebook's page does around a viewer's frame. Called with the frame once its page is there;
// `told`, where it is given, gets each message of the page.
(frame, told) => {
  // The still picture is for where no script runs.
  const still = frame.previousElementSibling;
  if (still) still.style.display = "none";
  frame.style.display = "block";
  // A notebook has a theme of its own; the frame's page knows the system's only.
  let ground = frame;
  let colour = null;
  while (ground && !colour) {
    const parts = (getComputedStyle(ground).backgroundColor.match(/[\d.]+/g) || []).map(Number);
    if (parts.length === 3 || parts[3] > 0.5) colour = parts;
    ground = ground.parentElement;
  }
  if (colour) {
    const light = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2];
    const theme = light < 128 ? "dark" : "light";
    frame.style.colorScheme = theme;
    frame.contentWindow.postMessage({ rdaam: "theme", theme }, "*");
  }
  // A frame that was moved in the page is loaded again.
  if (frame.rdaamListener) window.removeEventListener("message", frame.rdaamListener);
  frame.rdaamListener = ({ source, data }) => {
    if (!frame.isConnected) window.removeEventListener("message", frame.rdaamListener);
    else if (source === frame.contentWindow && data && typeof data === "object") {
      if (data.rdaam === "size" && data.height > 0) frame.style.height = data.height + "px";
      else if (told) told(data);
    }
  };
  window.addEventListener("message", frame.rdaamListener);
}
