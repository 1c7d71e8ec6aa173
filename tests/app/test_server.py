"""The server over HTTP: what it answers, what it refuses, and runs of several visitors at once."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest_app import load_tiny, tiny_denoiser
from gradio_client.utils import apply_diff
from PIL import Image

from diffusers_rdaam import AppExtraError, Attribution, InputError
from diffusers_rdaam.app import server as servers
from diffusers_rdaam.app.runs import Run
from diffusers_rdaam.app.server import Server

PROMPT = "a cat in a hat"
# gradio and what it stands on; none of it is ours.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def request(
    server: Server, path: str, *, host: str | None = None, body: Any = None
) -> tuple[int, dict[str, str], bytes]:
    """One request as it is written: no client that tidies the path."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        headers = {"Host": host or f"127.0.0.1:{server.port}"}
        data = None if body is None else json.dumps(body)
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request("GET" if body is None else "POST", path, data, headers)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()


def is_left_alone(value: Any) -> bool:
    """Whether an event leaves a part of the page as it is."""
    return isinstance(value, dict) and {*value} <= {"__type__", "props"} and "__type__" in value


class Visitor:
    """A browser without a screen: it calls the page's events in a session of its own."""

    def __init__(self, server: Server, key: str) -> None:
        self.server, self.key = server, key
        config = json.loads(request(server, "/config")[2])
        self.events = {one["api_name"]: one for one in config["dependencies"]}
        self.names = {one["id"]: one for one in config["components"]}

    def call(self, name: str, *data: Any) -> list[Any]:
        """The last answer of an event."""
        return self.finish(self.begin(name, *data))

    def begin(self, name: str, *data: Any) -> str:
        """Put an event into the queue."""
        body = {
            "data": list(data),
            "fn_index": self.events[name]["id"],
            "session_hash": self.key,
            "event_data": None,
        }
        status, _, text = request(self.server, "/gradio_api/queue/join", body=body)
        assert status == 200, text
        return str(json.loads(text)["event_id"])

    def finish(self, event: str) -> list[Any]:
        """Wait for the end of an event; what the page would show then."""
        shown: list[Any] = []
        for values in self.updates(event):
            shown = shown or [None] * len(values)
            pairs = zip(shown, values, strict=True)
            shown = [old if is_left_alone(new) else new for old, new in pairs]
        return shown

    def updates(self, event: str) -> Iterator[list[Any]]:
        """The values of an event, one list for each time that it changes the page."""
        values: list[Any] = []
        for message in self._messages():
            if message.get("event_id") != event:
                continue
            found = message.get("output", {}).get("data")
            if message["msg"] == "process_completed":
                assert message["success"], message
                yield found
                return
            if message["msg"] == "process_generating":
                # After the first come differences.
                pairs = zip(values, found, strict=True)
                values = [apply_diff(old, new) for old, new in pairs] if values else found
                yield values
        raise AssertionError("the stream ended")

    def _messages(self) -> Iterator[dict[str, Any]]:
        with closing(
            http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        ) as connection:
            connection.request("GET", f"/gradio_api/queue/data?session_hash={self.key}")
            answer = connection.getresponse()
            while line := answer.readline():
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])

    @property
    def session(self) -> Any:
        """What the server keeps for this visitor."""
        return self.server.sessions.get(self.key)


def form(seed: int, *, prompt: str = PROMPT, steps: int = 2, model: str = "tiny") -> list[Any]:
    """The values of the form for one image of 64 by 64 pixels."""
    return [model, prompt, "", seed, steps, 2, 64, 64, 1, None, "", 0.6, "", []]


def _alone(pipe: Any, seed: int, steps: int = 2, prompt: str = PROMPT) -> Any:
    return pipe(
        prompt,
        generator=torch.Generator("cpu").manual_seed(seed),
        num_inference_steps=steps,
        guidance_scale=2.0,
        height=64,
        width=64,
    )


def _check_seeds(server: Server, count: int, rounds: int = 1) -> None:
    """Every visitor's image is what its seed makes without the app."""
    pipe = load_tiny()
    visitors = [Visitor(server, f"visitor{number}") for number in range(count)]
    for turn in range(rounds):
        done: list[Any] = [None] * count

        def visit(number: int, done: list[Any] = done, turn: int = turn) -> None:
            done[number] = visitors[number].call("generate", *form(100 * turn + number))

        threads = [threading.Thread(target=visit, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, visitor in enumerate(visitors):
            entry = visitor.session.entries[0]
            alone = _alone(pipe, 100 * turn + number)
            found = entry.attribution()
            assert entry.seed == 100 * turn + number, done[number]
            assert (np.asarray(found.image) == np.asarray(alone.images[0])).all()
            for mine, other in zip(found.grids, alone.attribution.grids, strict=True):
                assert torch.equal(mine.maps, other.maps)


def test_the_end_of_an_event_changes_nothing(serve: Callable[..., Server]) -> None:
    """It repeats the last update: a box, or paint, of the time in between would be wiped off."""
    visitor = Visitor(serve([tiny_denoiser()]), "one")
    for name, data in (
        ("generate", form(1)),
        ("gradient", [1, ""]),
        ("generate", form(1, prompt="")),
    ):
        *before, last = visitor.updates(visitor.begin(name, *data))
        assert before and all(map(is_left_alone, last)), name


def test_no_part_has_properties_that_an_event_empties(serve: Callable[..., Server]) -> None:
    """Where an event leaves a part as it is, gradio empties what it does not know itself."""
    parts = Visitor(serve([tiny_denoiser()]), "one").names.values()
    own = [one["props"]["props"] for one in parts if one["type"] == "html"]
    assert len(own) > 5
    assert not any(own), own


def test_visitors_at_once_each_get_their_own_image(serve: Callable[..., Server]) -> None:
    server = serve([tiny_denoiser()])
    _check_seeds(server, 3)
    assert len(server.sessions) == 3


@pytest.mark.slow
def test_twenty_visitors_again_and_again_take_no_more_memory(
    serve: Callable[..., Server],
) -> None:
    import resource

    server = serve([tiny_denoiser()])
    _check_seeds(server, 20, rounds=2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _check_seeds(server, 20, rounds=4)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 60_000, f"{grown} kB more after 80 images"
    assert len(server.sessions) == 20


def test_a_run_holds_no_other_visitor_up_and_its_cancel_frees_the_model(
    serve: Callable[..., Server], tmp_path: Path, make_attribution: Callable[..., Attribution]
) -> None:
    make_attribution().save(tmp_path / "a.safetensors")
    denoiser = tiny_denoiser()
    server = serve([denoiser], tmp_path)
    busy, reader = Visitor(server, "busy"), Visitor(server, "reader")
    event = busy.begin("generate", *form(1, steps=400))
    deadline = time.monotonic() + 60
    while busy.session.run is None or busy.session.run.progress.step < 2:
        assert time.monotonic() < deadline and not (busy.session.run and busy.session.run.has_ended)
        time.sleep(0.01)
    reader.call("open_listed", "a.safetensors")
    selection = json.dumps({"box": [10, 10, 40, 40]})
    chart, _ = reader.call("region", 1, selection)
    assert "words ranked by lift" in chart
    run = busy.session.run
    assert run.state == "running", "the other visitor was answered meanwhile"
    Visitor(server, "busy").begin("cancel")
    assert run.wait(30) and run.state == "cancelled" and run.progress.step < 400
    deadline = time.monotonic() + 10
    while not denoiser.is_idle and time.monotonic() < deadline:
        time.sleep(0.01)
    assert denoiser.is_idle
    assert "Cancelled" in json.dumps(busy.finish(event))
    assert Visitor(server, "next").call("generate", *form(2))


def test_what_is_wrong_is_said_and_the_form_stays(serve: Callable[..., Server]) -> None:
    server = serve([tiny_denoiser()])
    visitor = Visitor(server, "visitor")
    for changed, text in (
        ({1: ""}, "The prompt is empty"),
        ({6: 100}, "The width is a multiple of 16"),
        ({3: 1.5}, "The seed is a whole number; got 1.5"),
        ({4: 5000}, "The number of steps"),
        ({4: "0"}, "The number of steps is a whole number from 1 to 1000; got 0"),
        ({4: "2.5"}, "The number of steps is a whole number; got 2.5"),
        ({4: "inf"}, "The number of steps is a whole number; got inf"),
        ({5: "much"}, "The guidance is a number; got 'much'. Leave the field empty"),
        ({5: "nan"}, "The guidance is a number from 0 to 1000"),
        ({7: "wide"}, "The height is a number; got 'wide'"),
        ({10: "{"}, "is not JSON"),
    ):
        values = form(1)
        for place, value in changed.items():
            values[place] = value
        assert text in unescape(json.dumps(visitor.call("generate", *values)))
    for name in ("region", "gradient"):
        answer = json.dumps(visitor.call(name, None, ""))
        assert "There is no image yet" in answer
    assert "no image 9 in this session" in json.dumps(visitor.call("open_entry", 9))


def test_empty_fields_say_what_the_model_does_by_itself(serve: Callable[..., Server]) -> None:
    denoiser = tiny_denoiser()
    server = serve([denoiser])
    visitor = Visitor(server, "visitor")
    fields = {
        one["props"]["label"]: one["props"]
        for one in visitor.names.values()
        if one["props"].get("label") in ("Steps", "Guidance", "Width", "Height")
    }
    assert {one["placeholder"] for one in fields.values()} == {"default"}
    assert not any(one.get("value") for one in fields.values())
    # Only the first run loads the model.
    before = [field.placeholder for field in server.page.generation.show_defaults("tiny")]
    assert before == ["default"] * 4
    values = form(1)
    values[6] = ""
    visitor.call("generate", *values)
    own = denoiser.loaded.defaults
    assert visitor.session.entries[0].attribution().image_size == (64, own.width)
    after = [field.placeholder for field in server.page.generation.show_defaults("tiny")]
    numbers = ("50", "7.5", str(own.width), str(own.height))
    assert after == [f"{number} (default)" for number in numbers]


def test_a_replaced_word_is_another_image_of_the_same_seed(serve: Callable[..., Server]) -> None:
    server = serve([tiny_denoiser()])
    visitor = Visitor(server, "visitor")
    visitor.call("generate", *form(7))
    shown = unescape(json.dumps(visitor.call("replace_word", 1, "cat", "dog")))
    assert "'dog' in place of 'cat'" in shown
    assert ">A<" in shown and ">B<" in shown and "A: cat (peak" in shown and "B: dog (peak" in shown
    second, first = visitor.session.entries
    assert (first.title, second.title) == (PROMPT, "a dog in a hat")
    assert first.seed == second.seed == 7 and second.request.prompt == "a dog in a hat"
    alone = _alone(load_tiny(), 7, prompt="a dog in a hat")
    image = np.asarray(second.attribution().image)
    assert (image == np.asarray(alone.images[0])).all()
    for word, text in (("mat", "'mat' is not a word"), ("cat", "is the word that is there")):
        assert text in unescape(json.dumps(visitor.call("replace_word", 1, word, "cat")))
    assert "There is no image yet" in json.dumps(visitor.call("replace_word", None, "cat", "dog"))
    assert len(visitor.session.entries) == 2


def test_a_hostile_prompt_is_text_everywhere(serve: Callable[..., Server]) -> None:
    server = serve([tiny_denoiser()])
    visitor = Visitor(server, "visitor")
    prompt = "</script><img src=x onerror=alert(1)> {{7*7}} ${8*8} '\"& cat"
    shown = visitor.call("generate", *form(1, prompt=prompt))
    entry = visitor.session.entries[0]
    assert entry.title == prompt and entry.has_attribution
    everything = shown + visitor.call("maps", 1) + visitor.call("region", 1, '{"box":[0,0,9,9]}')
    for part in everything:
        if isinstance(part, str):
            assert "<img src=x" not in part and "</script>" not in part


def test_every_answer_says_what_the_page_may_load(serve: Callable[..., Server]) -> None:
    server = serve([])
    for path in ("/", "/config", "/nowhere"):
        _, headers, _ = request(server, path)
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "http:" not in policy and "*" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    page = request(server, "/")[2].decode()
    assert "fonts.googleapis" not in page and "cdnjs" not in page
    config = json.loads(request(server, "/config")[2])
    assert config["analytics_enabled"] is False


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org", "localhost.evil", ""])
def test_another_name_of_this_machine_is_refused(serve: Callable[..., Server], host: str) -> None:
    server = serve([])
    assert request(server, "/config", host=host or " ")[0] in (400, 421)
    for good in ("localhost", f"localhost:{server.port}", "127.0.0.1"):
        assert request(server, "/config", host=good)[0] == 200


def test_no_path_leads_out_of_the_session_s_folder(
    serve: Callable[..., Server], tmp_path: Path, make_attribution: Callable[..., Attribution]
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    secret = make_attribution().save(tmp_path / "secret.safetensors")
    make_attribution().save(folder / "a.safetensors")
    (folder / "link.safetensors").symlink_to(secret)
    server = serve([], folder)
    inside = ("/etc/passwd", str(secret), str(folder / "a.safetensors"), str(server.root))
    names = (*inside, "../../../../etc/passwd", "..%2f..%2fetc%2fpasswd", f"{server.root}/../x")
    for name in names:
        for route in ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/", "/assets/"):
            status, _, body = request(server, route + name)
            assert status >= 400 and b"root:" not in body, (route, name)
    visitor = Visitor(server, "visitor")
    for name in ("../secret.safetensors", str(secret), "link.safetensors", "/etc/passwd"):
        answer = json.dumps(visitor.call("open_listed", name))
        assert "could lead out" in answer or "leads out" in answer
    assert visitor.session.entries == []
    # An upload that is only claimed: the file of somebody else.
    for claimed in (str(secret), "/etc/passwd"):
        event = visitor.begin("open_file", {"path": claimed, "meta": {"_type": "gradio.FileData"}})
        with pytest.raises(AssertionError, match="process_completed"):
            visitor.finish(event)
    assert visitor.session.entries == []


def test_a_file_without_an_image_is_shown_and_painted_on(
    serve: Callable[..., Server], tmp_path: Path, make_attribution: Callable[..., Attribution]
) -> None:
    make_attribution(image=False).save(tmp_path / "bare.safetensors")
    visitor = Visitor(serve([], tmp_path), "visitor")
    opened = json.dumps(visitor.call("open_listed", "bare.safetensors"))
    # The canvas' picture and sides are JSON in what is JSON itself.
    assert "The file is open" in opened and '"width": 96' in opened.replace("\\", "")
    maps = json.dumps(visitor.call("maps", 1))
    assert "peak" in maps and "data:image/png" in maps
    strokes = {"strokes": [{"radius": 8, "points": [[20, 20], [40, 40]]}]}
    assert "rdaam-chart" in json.dumps(visitor.call("region", 1, json.dumps(strokes)))
    # A number that no float holds is refused as any other.
    answer = json.dumps(visitor.call("region", 1, json.dumps({"box": [0, 0, 10**400, 9]})))
    assert "The box has the number 1000" in answer


def test_the_end_removes_everything(
    serve: Callable[..., Server], tmp_path: Path, make_attribution: Callable[..., Attribution]
) -> None:
    import os

    make_attribution().save(tmp_path / "a.safetensors")
    before = {
        name: os.environ.get(name) for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED")
    }
    server = serve([], tmp_path)
    assert os.environ["GRADIO_TEMP_DIR"] == str(server.root / "uploads")
    visitor = Visitor(server, "visitor")
    visitor.call("open_listed", "a.safetensors")
    assert list(server.root.rglob("attribution.safetensors"))
    assert server.root.stat().st_mode & 0o077 == 0, "no other user reads it"
    server.close()
    assert not server.root.exists()
    assert before == {name: os.environ.get(name) for name in before}


def test_a_port_in_use_says_so(serve: Callable[..., Server]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen on 127\.0\.0\.1:{port}: .*--port"):
            servers.open_socket("127.0.0.1", port)


def test_a_host_that_is_not_here_says_so() -> None:
    with pytest.raises(InputError, match=r"cannot listen on 192\.0\.2\.7|not an address"):
        servers.open_socket("192.0.2.7", 0)
    with pytest.raises(InputError, match="is not an address of this machine"):
        servers.open_socket("no such host", 0)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "192.168.0.3", "example.org")),
    ],
)
def test_what_only_this_machine_can_reach(host: str, own: bool) -> None:
    assert servers.is_loopback(host) is own


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(AppExtraError, match=r'pip install "diffusers_rdaam\[app\]"'):
        Server([])


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_folder_that_is_none_says_so(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "files"
    if kind == "file":
        path.write_text("x")
    with pytest.raises(InputError, match=r"--files .*files cannot be read"):
        Server([], path)


def test_a_picture_is_read_within_its_bounds(
    serve: Callable[..., Server], picture: Image.Image
) -> None:
    server = serve([])
    assert Run(lambda pipe, run: None).state == "waiting"
    boundary = "x" * 20
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="../../a.png"\r\n'
        "Content-Type: image/png\r\n\r\nnot a picture\r\n"
        f"--{boundary}--\r\n"
    )
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        kind = f"multipart/form-data; boundary={boundary}"
        connection.request("POST", "/gradio_api/upload", body, {"Content-Type": kind})
        answer = connection.getresponse()
        (path,) = json.loads(answer.read())
    assert answer.status == 200
    assert Path(path).resolve().is_relative_to(server.root / "uploads")
