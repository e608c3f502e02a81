"""The webhook, the numbers people see, and the doctor."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pipeline import doctor, reporting


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[dict]]]:
    """A webhook on loopback: its URL and what it got."""
    got: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", got
    server.shutdown()


def test_webhook_gets_one_line_and_facts(receiver):
    url, got = receiver
    assert reporting.notify(url, "one", True, "pass", 75, "produce-one")
    assert got == [{"text": "one: done after 1:15 min: pass", "style": "one", "ok": True, "run": "produce-one"}]


def test_a_dead_webhook_is_no_error():
    assert not reporting.notify("", "one", True, "pass", 1, "")
    assert not reporting.notify("http://127.0.0.1:9/hook", "one", False, "x", 1, "")


def test_numbers_and_verdict_of_a_finished_style(built):
    rows = reporting.numbers(built, "one")
    assert {"stage": "evaluate", "metric": "style_gap", "value": 0.5} in rows
    assert reporting.verdict_line(built, "one") == "pass"
    assert reporting.verdict_line(built, "nobody") == "not evaluated"


def test_doctor_names_what_is_missing_and_what_it_would_improve(factory, monkeypatch, tmp_path):
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", "")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    found = doctor.examine(factory)
    text = doctor.as_text(found)
    assert not [finding for finding in found if finding.mark == "bad"], text
    assert "yunet: not found; would improve face detection" in text
    factory.params.write_text(factory.params.read_text().replace("seed: 0", "seed: minus"))
    assert "BAD" in doctor.as_text(list(doctor._settings(factory)))
