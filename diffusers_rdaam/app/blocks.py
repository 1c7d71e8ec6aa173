"""The page: what it shows, and which event asks what. The only file that knows gradio's parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from diffusers_rdaam.app import events, form, fragments
from diffusers_rdaam.app.requests import (
    GenerationRequest,
    ModelDefaults,
    PictureRequest,
    Pipelines,
)
from diffusers_rdaam.app.runs import CancelledRun, Denoiser, Progress, Run
from diffusers_rdaam.app.session import Entry, Session, Sessions
from diffusers_rdaam.errors import InputError, RDAAMError

# Seconds between two looks at a run.
_PATIENCE = 0.15
_EXAMPLE = "a red circle and a blue square"
# Shown in an empty field.
_OWN = "default"
_NO_MODEL = "This server has no model: it shows saved attributions. Start it with --model."

Updates = dict[Any, Any]


class Page:
    """One server's page.

    Args:
        denoisers: the models, the first one chosen at the beginning; none to show files only.
        sessions: of its visitors.
        folder: of attribution files that every visitor may open, if any.
    """

    def __init__(
        self, denoisers: Sequence[Denoiser], sessions: Sessions, folder: Path | None = None
    ) -> None:
        self.denoisers = {one.name: one for one in denoisers}
        self.sessions = sessions
        self.folder = folder

    # ------------------------------------------------------------------ layout

    def build(self) -> gr.Blocks:
        """The page with its events."""
        with gr.Blocks(
            analytics_enabled=False, title="rdaam", delete_cache=(600, 3600), fill_width=True
        ) as blocks:
            gr.Markdown("# rdaam\nWhich words made this region, and which regions this word made.")
            with gr.Row():
                with gr.Column(scale=2, min_width=320):
                    self._lay_inputs()
                with gr.Column(scale=3, min_width=320):
                    self._lay_result()
            self._bind(blocks)
            blocks.unload(self._leave)
        blocks.queue(default_concurrency_limit=None)
        return blocks

    def _lay_inputs(self) -> None:
        with gr.Tabs():
            if self.denoisers:
                names = list(self.denoisers)
                with gr.Tab("Generate"):
                    self.model = gr.Dropdown(
                        names, value=names[0], label="Model", visible=len(names) > 1
                    )
                    self._lay_generation()
                with gr.Tab("A picture of yours"):
                    self._lay_picture()
            with gr.Tab("Files"):
                self._lay_files()

    def _lay_generation(self) -> None:
        self.prompt = gr.Textbox(label="Prompt", value=_EXAMPLE, lines=2, elem_id="rdaam-prompt")
        self.negative = gr.Textbox(label="Negative prompt", lines=1)
        with gr.Row():
            self.seed = _number_field("Seed", 3)
            self.images = _number_field("Images", 1)
        with gr.Row():
            self.steps = _optional_field("Steps")
            self.guidance = _optional_field("Guidance")
        with gr.Row():
            self.width = _optional_field("Width")
            self.height = _optional_field("Height")
        with gr.Accordion("Begin from an image", open=False):
            self.start = gr.File(label="Image", file_types=["image"], type="filepath", height=120)
            self.mask = self._painter("Paint what is to be made anew, or nothing for all of it")
            self.strength = gr.Slider(0.05, 1.0, value=0.6, step=0.05, label="Strength")
        with gr.Accordion("Also record", open=False):
            self.concepts = gr.Textbox(
                label="Concepts: other texts to look for, with commas between them"
            )
            self.keep = gr.CheckboxGroup(
                ["every step", "self-attention", "queries, to ask for other texts later"],
                label="Keep",
                type="index",
            )
        with gr.Row():
            self.generate_button = gr.Button("Generate", variant="primary")
            self.cancel_button = gr.Button("Cancel", variant="stop")

    def _lay_picture(self) -> None:
        self.picture = gr.File(label="Picture", file_types=["image"], type="filepath", height=120)
        self.picture_prompt = gr.Textbox(label="What it shows", lines=2)
        self.method = gr.Radio(
            ["forward", "invert"], value="forward", label="Method: noise it, or invert it"
        )
        with gr.Row():
            self.attribute_button = gr.Button("Attribute", variant="primary")
            self.cancel_picture = gr.Button("Cancel", variant="stop")

    def _lay_files(self) -> None:
        self.upload = gr.File(
            label="An attribution file (.safetensors)", type="filepath", height=120
        )
        if self.folder is not None:
            names = events.listed_files(self.folder)
            self.listed = gr.Dropdown(
                names, value=None, label=f"Files of {self.folder.name}", allow_custom_value=True
            )
            self.reload_button = gr.Button("Read the folder again")
        self.save_button = gr.DownloadButton("Save the shown attribution", interactive=False)

    def _lay_result(self) -> None:
        first = "Ready." if self.denoisers else _NO_MODEL
        self.status = gr.HTML(fragments.status(first), elem_id="rdaam-status")
        self.live = gr.HTML("", elem_id="rdaam-live")
        self.frame = gr.HTML(
            value="",
            html_template=(
                '<div class="rdaam-frame"><p class="rdaam-empty">The image and its words appear '
                'here.</p><iframe hidden title="Attribution viewer" '
                'sandbox="allow-scripts allow-downloads"></iframe></div>'
            ),
            js_on_load=fragments.asset("frame.js"),
            elem_id="rdaam-frame",
        )
        # What the page knows between two events; an interface may set them, too.
        self.current = gr.Number(visible=False, precision=0)
        self.selection = gr.Textbox(visible=False)
        with gr.Tabs():
            with gr.Tab("Region"):
                self._lay_region()
            with gr.Tab("Paint") as self.paint_tab:
                self.paint = self._painter("Paint a region of the shown image")
                self.painted_chart = gr.HTML("")
            with gr.Tab("Words"):
                self._lay_words()
            with gr.Tab("Compare"):
                self._lay_comparison()
            with gr.Tab("History"):
                self.history = gr.HTML(
                    fragments.history([], None),
                    js_on_load=fragments.asset("history.js"),
                    elem_id="rdaam-history",
                )

    def _lay_region(self) -> None:
        self.chart = gr.HTML(fragments.note("Draw a box or an outline in the image above."))
        visible = bool(self.denoisers)
        with gr.Row(visible=visible):
            self.gradient_button = gr.Button("Gradients of the region")
            self.ablation_button = gr.Button("Change without each word")
            self.cancel_explanation = gr.Button("Cancel", variant="stop")
        self.costs = gr.HTML("", visible=visible)
        self.explanation = gr.HTML("")

    def _lay_words(self) -> None:
        with gr.Row():
            self.maps_button = gr.Button("Draw every word's map")
            self.tree_button = gr.Button("Dependency tree")
        self.maps = gr.HTML("")
        self.tree = gr.HTML("")
        with gr.Row(visible=bool(self.denoisers)):
            self.asked = gr.Textbox(label="Another text to look for in the shown image", scale=3)
            self.ask_button = gr.Button("Look", scale=1)
        self.answer = gr.HTML("")

    def _lay_comparison(self) -> None:
        with gr.Row():
            self.first = gr.Number(label="Image A of the history", precision=0, minimum=1)
            self.second = gr.Number(label="Image B", precision=0, minimum=1)
        self.compare_button = gr.Button("Compare side by side")
        with gr.Row(visible=bool(self.denoisers)):
            # Any text, because the choices of another page may come from a caller.
            self.replaced = gr.Dropdown(
                [], label="Word of the shown image", allow_custom_value=True, value=None
            )
            self.replacement = gr.Textbox(label="Another in its place", max_lines=1)
        with gr.Row(visible=bool(self.denoisers)):
            self.replace_button = gr.Button("Replace the word, same seed")
            self.cancel_replacement = gr.Button("Cancel", variant="stop")
        self.comparison = gr.HTML("")

    def _painter(self, label: str) -> gr.HTML:
        """A picture that can be painted on; its value is the strokes, as JSON."""
        template = (
            f'<div class="rdaam-painter"><p>{escape(label)}.</p><div class="rdaam-tools"><label>'
            'Brush <input type="range" min="2" max="40" value="12" aria-label="Size of the brush">'
            '</label><button type="button" data-tool="erase" aria-pressed="false">Erase</button>'
            '<button type="button" data-tool="clear">Clear</button></div>'
            '<p class="rdaam-empty">There is no image yet.</p>'
            f'<canvas hidden tabindex="0" role="application" aria-label="{escape(label)}; arrows '
            'move the brush, the space bar paints"></canvas></div>'
        )
        return gr.HTML(
            value="",
            html_template=template,
            js_on_load=fragments.asset("painter.js"),
            picture="",
            width=0,
            height=0,
        )

    # ------------------------------------------------------------------ events

    def _bind(self, blocks: gr.Blocks) -> None:
        shown = [
            self.status,
            self.live,
            self.frame,
            self.current,
            self.selection,
            self.history,
            self.paint,
            self.costs,
            self.save_button,
            self.replaced,
            *(self.chart, self.explanation, self.painted_chart, self.maps, self.tree, self.answer),
        ]
        self._bind_files(shown)
        self._bind_questions(shown)
        if self.denoisers:
            self._bind_models(shown, blocks)

    def _bind_models(self, shown: list[Any], blocks: gr.Blocks) -> None:
        fields = [
            *(self.model, self.prompt, self.negative, self.seed, self.steps, self.guidance),
            *(self.width, self.height, self.images, self.start, self.mask, self.strength),
            *(self.concepts, self.keep),
        ]
        generated = gr.on(
            [self.generate_button.click, self.prompt.submit],
            self.generate,
            fields,
            shown,
            api_name="generate",
            show_progress="hidden",
        )
        attributed = self.attribute_button.click(
            self.attribute_picture,
            [self.model, self.picture, self.picture_prompt, self.method, self.seed],
            shown,
            api_name="attribute_image",
            show_progress="hidden",
        )
        optional = [self.steps, self.guidance, self.width, self.height]
        # The first run loads the model, and a page may be opened later than that.
        for moment in (generated.then, attributed.then, self.model.change, blocks.load):
            moment(self.show_defaults, self.model, optional, api_name=False, show_progress="hidden")
        for button in (
            *(self.cancel_button, self.cancel_picture),
            *(self.cancel_explanation, self.cancel_replacement),
        ):
            button.click(self.cancel, None, self.status, api_name="cancel", show_progress="hidden")
        self.start.change(self.show_start, self.start, [self.mask, self.status], api_name=False)
        explained = [self.status, self.live, self.explanation]
        for button, kind in (
            (self.gradient_button, "gradient"),
            (self.ablation_button, "ablation"),
        ):
            button.click(
                self._explainer(kind),
                [self.current, self.selection],
                explained,
                api_name=kind,
                show_progress="hidden",
            )
        self.replace_button.click(
            self.replace_word,
            [self.current, self.replaced, self.replacement],
            [*shown, self.first, self.second, self.comparison],
            api_name="replace_word",
            show_progress="hidden",
        )
        self.ask_button.click(
            self.ask,
            [self.current, self.asked],
            [self.status, self.live, self.answer],
            api_name="ask",
            show_progress="hidden",
        )

    def _bind_files(self, shown: list[Any]) -> None:
        self.upload.upload(self.open_upload, self.upload, shown, api_name="open_file")
        if self.folder is not None:
            self.listed.input(self.open_listed, self.listed, shown, api_name="open_listed")
            self.reload_button.click(
                lambda: gr.Dropdown(events.listed_files(self.folder)),
                None,
                self.listed,
                api_name="list_files",
            )

    def _bind_questions(self, shown: list[Any]) -> None:
        self.history.choose(self._choose, None, shown, api_name=False)
        self.current.input(self.open_entry, self.current, shown, api_name="open_entry")
        self.frame.selection(
            self._select, self.current, [self.selection, self.chart, self.status], api_name=False
        )
        self.selection.input(
            self.region,
            [self.current, self.selection],
            [self.chart, self.status],
            api_name="region",
        )
        self.paint.change(
            self.region,
            [self.current, self.paint],
            [self.painted_chart, self.status],
            api_name=False,
            show_progress="hidden",
        )
        self.maps_button.click(self.draw_maps, self.current, self.maps, api_name="maps")
        self.tree_button.click(self.draw_tree, self.current, self.tree, api_name="tree")
        self.compare_button.click(
            self.compare,
            [self.first, self.second, self.selection],
            [self.frame, self.comparison, self.status],
            api_name="compare",
        )

    # --------------------------------------------------------------- generation

    async def generate(
        self,
        model: str,
        prompt: str,
        negative: str,
        seed: Any,
        steps: Any,
        guidance: Any,
        width: Any,
        height: Any,
        images: Any,
        start: str | None,
        strokes: str,
        strength: float,
        concepts: str,
        keep: list[int],
        request: gr.Request,
    ) -> AsyncIterator[Updates]:
        """Generate images, show them while they grow, and put them into the history."""
        session = self._session(request)

        def work() -> tuple[Denoiser, Callable[[Pipelines, Run], Any]]:
            picture = None if start is None else events.read_upload(start)
            asked = GenerationRequest(
                prompt=prompt,
                negative_prompt=negative or "",
                seed=form.whole(seed, "The seed") or 0,
                steps=form.typed_whole(steps, "The number of steps"),
                guidance=form.typed_number(guidance, "The guidance"),
                width=form.typed_whole(width, "The width"),
                height=form.typed_whole(height, "The height"),
                images=form.whole(images, "The number of images") or 1,
                start=picture,
                mask=form.painted_mask(strokes, picture),
                strength=strength,
                vocabulary=events.split_concepts(concepts or ""),
                keep_steps=0 in (keep or ()),
                keep_self_attention=1 in (keep or ()),
                keep_queries=2 in (keep or ()),
            )
            denoiser = self._denoiser(model)
            return denoiser, lambda pipes, run: pipes.generate(asked, run)

        def finish(run: Run) -> Updates:
            entry = self._add_made(session, run, model)
            count = len(run.result)
            done = f"Done: {count} image{'s' * (count > 1)} in {run.seconds:.1f} s."
            return self._show(session, entry.number, done, run.warnings)

        async for update in self._run(session, work, finish):
            yield update

    def _add_made(self, session: Session, run: Run, model: str | None) -> Entry:
        """The images of a run into the history; the last one's entry."""
        for made in run.result:
            entry = session.add(
                made.attribution,
                made.image,
                title=made.request.prompt,
                kind="made",
                model=model,
                request=made.request,
                seed=made.seed,
                seconds=made.seconds,
            )
        return entry

    def show_defaults(self, model: str) -> list[Any]:
        """The model's own numbers in the empty fields, once the model is loaded."""
        loaded = self._denoiser(model).loaded
        own = getattr(loaded, "defaults", ModelDefaults())
        return [
            gr.Textbox(placeholder=_OWN if number is None else f"{number:g} ({_OWN})")
            for number in (own.steps, own.guidance, own.width, own.height)
        ]

    async def attribute_picture(
        self,
        model: str,
        picture: str | None,
        prompt: str,
        method: str,
        seed: Any,
        request: gr.Request,
    ) -> AsyncIterator[Updates]:
        """The attribution of a picture that a visitor has uploaded."""
        session = self._session(request)

        def work() -> tuple[Denoiser, Callable[[Pipelines, Run], Any]]:
            if picture is None:
                raise InputError("There is no picture. Upload one.")
            asked = PictureRequest(
                events.read_upload(picture), prompt, method, form.whole(seed, "The seed") or 0
            )
            return self._denoiser(model), lambda pipes, run: pipes.attribute_picture(asked, run)

        def finish(run: Run) -> Updates:
            found = run.result
            entry = session.add(found, found.image, title=prompt, kind="picture", model=model)
            return self._show(session, entry.number, f"Done in {run.seconds:.1f} s.", run.warnings)

        async for update in self._run(session, work, finish):
            yield update

    def _explainer(self, kind: Any) -> Callable[..., AsyncIterator[Updates]]:
        async def explain(
            current: Any, selection: str, request: gr.Request
        ) -> AsyncIterator[Updates]:
            """Explain the drawn region of an image that was made here."""
            session = self._session(request)

            def work() -> tuple[Denoiser, Callable[[Pipelines, Run], Any]]:
                number = form.image_number(current)
                entry, asked = session.entry(number), session.replay(number)
                size = session.attribution(number).image_size
                region = events.selected_region(events.read_selection(selection), size)
                if region is not None:
                    session.attribution(number).region(region)
                seed = entry.seed or 0
                return self._denoiser(entry.model), lambda pipes, run: pipes.explain(
                    kind, asked, seed, region, run
                )

            def finish(run: Run) -> Updates:
                words = run.result
                memory = getattr(words, "memory", None)
                remarks = [*run.warnings, *([str(memory)] if memory is not None else [])]
                done = fragments.status(f"Done in {run.seconds:.1f} s.", remarks=remarks)
                shown = fragments.chart(events.chart(words))
                if kind == "ablation":
                    without = [("the image", words.image)]
                    without += [(f"without {word.text}", word.image) for word in words.words]
                    shown += fragments.gallery(without, side=192)
                return {self.status: done, self.live: "", self.explanation: shown}

            async for update in self._run(session, work, finish):
                yield update

        return explain

    async def ask(self, current: Any, text: str, request: gr.Request) -> AsyncIterator[Updates]:
        """Look for another text in an image whose queries were kept."""
        session = self._session(request)

        def work() -> tuple[Denoiser, Callable[[Pipelines, Run], Any]]:
            number = form.image_number(current)
            entry, found = session.entry(number), session.attribution(number)
            if found.queries is None:
                raise InputError(
                    "The queries of this image were not kept. Generate it again, with queries "
                    "under Also record, or name the text there as a concept."
                )
            return self._denoiser(entry.model), lambda pipes, run: pipes.ask(found, text, run)

        def finish(run: Run) -> Updates:
            shown = fragments.maps(events.heat_maps(run.result), "The text has no word.")
            done = fragments.status("Done.", remarks=run.warnings)
            return {self.status: done, self.live: "", self.answer: shown}

        async for update in self._run(session, work, finish):
            yield update

    async def replace_word(
        self, current: Any, word: Any, text: Any, request: gr.Request
    ) -> AsyncIterator[Updates]:
        """Generate an image again with another word and the same seed, and show both."""
        session = self._session(request)
        before: list[Any] = []

        def work() -> tuple[Denoiser, Callable[[Pipelines, Run], Any]]:
            number = form.image_number(current)
            entry, asked = session.entry(number), session.replay(number)
            found = session.attribution(number)
            changed = events.replaced_word(found.prompt, word, text)
            again = replace(asked, prompt=changed.prompt, seed=entry.seed or 0, images=1)
            before[:] = [entry, found, changed]
            return self._denoiser(entry.model), lambda pipes, run: pipes.generate(again, run)

        def finish(run: Run) -> Updates:
            entry, found, changed = before
            made = self._add_made(session, run, entry.model)
            done = f"Done: {changed.title} in {run.seconds:.1f} s."
            shown = self._show(session, made.number, done, run.warnings)
            if not made.has_attribution:
                return shown | {self.comparison: ""}
            other = session.attribution(made.number)
            table = fragments.comparison(*events.comparison_chart(found, other))
            images = [("A", found.image), ("B", other.image)]
            maps = events.replaced_maps(found, other, changed)
            return shown | {
                self.frame: fragments.document([found, other], changed.title),
                self.first: entry.number,
                self.second: made.number,
                self.comparison: fragments.replacement(images, maps) + table,
            }

        async for update in self._run(session, work, finish):
            yield update

    async def _run(
        self,
        session: Session,
        work: Callable[[], tuple[Denoiser, Callable[[Pipelines, Run], Any]]],
        finish: Callable[[Run], Updates],
    ) -> AsyncIterator[Updates]:
        """Queue a run and follow it to its end.

        Args:
            session: whose run it is.
            work: reads the form; the denoiser, and what it is to do.
            finish: what the page shows of a run that is done.
        """
        run: Run | None = None
        try:
            if session.run is not None and not session.run.has_ended:
                raise InputError(
                    "A run of yours is waiting or running. Cancel it, or wait for its end."
                )
            denoiser, task = await asyncio.to_thread(work)
            run = session.run = denoiser.submit(task)
            seen: Any = None
            while not run.has_ended:
                now = (run.state, run.progress, denoiser.place(run))
                if now != seen:
                    seen = now
                    yield await self._going_on(run, denoiser)
                await asyncio.sleep(_PATIENCE)
            run.outcome()
            yield await asyncio.to_thread(finish, run)
        except CancelledRun:
            text = "Cancelled. The model is free; what you typed is as it was."
            yield {self.status: fragments.status(text), self.live: ""}
        except Exception as error:
            remarks = [] if run is None else run.warnings
            shown = fragments.status(form.error_text(error), kind="error", remarks=remarks)
            yield {self.status: shown, self.live: ""}
        finally:
            # Also where the visitor has gone: nobody waits for it any more.
            if run is not None:
                run.cancel()
                # A session holds no images of a run that has ended.
                run.result, run.progress = None, Progress()

    async def _going_on(self, run: Run, denoiser: Denoiser) -> Updates:
        before = denoiser.place(run)
        if run.state == "waiting":
            text = f"Waiting: {before} run{'s' * (before != 1)} before this one."
            return {self.status: fragments.status(text, kind="busy")}
        text = "Running." if run.progress != Progress() else f"Starting {denoiser.name}."
        live = await asyncio.to_thread(fragments.live, run.progress)
        return {self.status: fragments.status(text, kind="busy"), self.live: live}

    def cancel(self, request: gr.Request) -> str:
        """End this session's run before its next step."""
        session = self._session(request)
        if session.run is None or session.run.has_ended:
            return fragments.status("No run of yours is waiting or running.")
        session.run.cancel()
        return fragments.status("Cancelling before the next step.", kind="busy")

    # ------------------------------------------------------------------- files

    async def open_upload(self, path: str | None, request: gr.Request) -> Updates:
        """Open an attribution file of the visitor."""
        return await self._open(
            request,
            lambda: (events.read_attribution(form.uploaded(path)), Path(form.uploaded(path)).name),
        )

    async def open_listed(self, name: Any, request: gr.Request) -> Updates:
        """Open an attribution file of the server's folder."""
        folder = self.folder
        assert folder is not None
        return await self._open(request, lambda: (events.open_listed(folder, name), str(name)))

    async def _open(self, request: gr.Request, read: Callable[[], Any]) -> Updates:
        session = self._session(request)

        def add() -> int:
            found, name = read()
            return session.add(found, found.image, title=name, kind="file").number

        try:
            number = await asyncio.to_thread(add)
        except RDAAMError as error:
            return {self.status: fragments.status(form.error_text(error), kind="error")}
        return await self._shown(session, number, "The file is open.", [])

    async def _choose(self, event: gr.EventData, request: gr.Request) -> Updates:
        return await self.open_entry(event._data.get("number"), request)

    async def open_entry(self, current: Any, request: gr.Request) -> Updates:
        """Show an image of the history."""
        session = self._session(request)
        try:
            return await self._shown(
                session, form.image_number(current), "An image of the history.", []
            )
        except RDAAMError as error:
            return {self.status: fragments.status(str(error), kind="error")}

    async def _shown(
        self, session: Session, number: int, text: str, remarks: Sequence[str]
    ) -> Updates:
        """Everything that shows one image; what belongs to another is emptied."""
        return await asyncio.to_thread(self._show, session, number, text, remarks)

    def _show(self, session: Session, number: int, text: str, remarks: Sequence[str]) -> Updates:
        entry = session.entry(number)
        emptied: Updates = dict.fromkeys(
            [self.explanation, self.painted_chart, self.maps, self.tree, self.answer], ""
        )
        found = session.attribution(number) if entry.has_attribution else None
        words = 0 if found is None else len({word.text.casefold() for word in found.words})
        labels = [] if found is None else list(events.word_labels(found.prompt))
        image = None if found is None else found.image or _blank(found.image_size)
        chart = "Draw a box or an outline in the image above."
        return emptied | {
            self.status: fragments.status(text, remarks=remarks),
            self.live: "" if found is not None else _image_alone(entry.folder),
            self.frame: "" if found is None else fragments.document([found], entry.title),
            self.current: number,
            self.selection: "",
            self.history: fragments.history(session.entries, number),
            self.paint: gr.HTML(**fragments.canvas(image)),
            self.costs: fragments.note(events.costs(words, entry.seconds)),
            self.save_button: gr.DownloadButton(
                value=str(entry.path) if entry.has_attribution else None,
                interactive=entry.has_attribution,
            ),
            self.chart: fragments.note(chart),
            self.replaced: gr.Dropdown(labels, value=None),
        }

    # --------------------------------------------------------------- questions

    def show_start(self, path: str | None) -> tuple[Any, str]:
        """The uploaded image in the painter of the mask."""
        try:
            image = None if path is None else events.read_upload(path)
        except RDAAMError as error:
            shown = fragments.status(form.error_text(error), kind="error")
            return gr.HTML(**fragments.canvas(None)), shown
        text = "Ready." if image is None else "The image is read. Paint a mask, or generate."
        return gr.HTML(**fragments.canvas(image)), fragments.status(text)

    async def _select(
        self, current: Any, event: gr.EventData, request: gr.Request
    ) -> tuple[str, str, str]:
        text = str(event._data.get("text", ""))
        shown, status = await self.region(current, text, request)
        return text, shown, status

    async def region(self, current: Any, selection: str, request: gr.Request) -> tuple[str, str]:
        """The words of a drawn or painted region, as a bar chart."""
        session = self._session(request)

        def answer() -> str:
            number = form.image_number(current)
            found = session.attribution(number)
            region = events.selected_region(events.read_selection(selection), found.image_size)
            if region is None:
                return fragments.note("Draw a box or an outline in the image above.")
            return fragments.chart(events.region_chart(found, region))

        try:
            return await asyncio.to_thread(answer), fragments.status("Ready.")
        except RDAAMError as error:
            return "", fragments.status(str(error), kind="error")

    async def draw_maps(self, current: Any, request: gr.Request) -> str:
        """Every word's map, and those of the concepts."""
        session = self._session(request)

        def answer() -> str:
            found = session.attribution(form.image_number(current))
            shown = fragments.maps(events.heat_maps(found), "The prompt has no word.")
            if found.vocabulary:
                shown += "<p>Concepts:</p>" + fragments.maps(events.concept_maps(found), "")
            return shown

        return await _answered(answer)

    async def draw_tree(self, current: Any, request: gr.Request) -> str:
        """The dependency tree of the prompt, where spaCy is installed."""
        session = self._session(request)

        def answer() -> str:
            return events.dependency_tree(
                session.attribution(form.image_number(current)).prompt.text or ""
            )

        return await _answered(answer)

    async def compare(
        self, first: Any, second: Any, selection: str, request: gr.Request
    ) -> Updates:
        """Two images of the history in one viewer, and their words in a table."""
        session = self._session(request)

        def answer() -> Updates:
            numbers = [form.image_number(first), form.image_number(second)]
            a, b = (session.attribution(number) for number in numbers)
            title = " and ".join(session.entry(number).title for number in numbers)
            try:
                region = events.selected_region(events.read_selection(selection), a.image_size)
                table = events.comparison_chart(a, b, region)
            except RDAAMError:
                # The region may be of an image of another size.
                table = events.comparison_chart(a, b)
            return {
                self.frame: fragments.document([a, b], title),
                self.comparison: fragments.comparison(*table),
                self.status: fragments.status("Images A and B, side by side."),
            }

        try:
            return await asyncio.to_thread(answer)
        except RDAAMError as error:
            return {self.status: fragments.status(str(error), kind="error")}

    # ---------------------------------------------------------------- sessions

    def _session(self, request: gr.Request) -> Session:
        return self.sessions.get(request.session_hash or "")

    def _leave(self, request: gr.Request) -> None:
        self.sessions.close(request.session_hash or "")

    def _denoiser(self, name: str | None) -> Denoiser:
        if not self.denoisers:
            raise InputError(_NO_MODEL)
        if name not in self.denoisers:
            names = ", ".join(self.denoisers)
            raise InputError(f"{name!r:.80} is not a model of this server. Models: {names}.")
        return self.denoisers[name]


async def _answered(answer: Callable[[], str]) -> str:
    try:
        return await asyncio.to_thread(answer)
    except RDAAMError as error:
        return fragments.status(str(error), kind="error")


def _number_field(label: str, value: int = 0) -> gr.Number:
    # The browser sends 0 for an empty field. Without a precision, which would round in silence.
    return gr.Number(label=label, value=value, minimum=0, step=1, min_width=80)


def _optional_field(label: str) -> gr.Textbox:
    # A field for numbers cannot be empty in the browser: it begins with 0.
    return gr.Textbox(label=label, placeholder=_OWN, max_lines=1, min_width=80)


def _blank(size: tuple[int, int]) -> Image.Image:
    """What is painted on where a file has maps and no image."""
    return Image.new("L", size[::-1], 200)


def _image_alone(folder: Path) -> str:
    with Image.open(folder / "image.png") as image:
        return fragments.gallery([("the image, without an attribution", image)], side=512)
