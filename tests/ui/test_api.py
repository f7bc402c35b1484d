"""The HTTP API under both hosts' FastAPI and pydantic."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lib_pivotal.app.api import PUBLIC, register
from lib_pivotal.app.comparison import comparison_for
from lib_pivotal.app.fusing import fusing_for
from lib_pivotal.core.config.io import to_dict
from lib_pivotal.core.errors import Interrupted
from lib_pivotal.core.train.memory_estimate import DeviceMemory
from tests.ui.fake_host import good_config

V1 = "/pivotal/v1"


def make_client(session, credentials=None, is_trusted=lambda _: False) -> TestClient:
    app = FastAPI()
    register(app, session, credentials or {}, is_trusted)
    return TestClient(app)


def test_a_run_over_http(session, engine, images):
    client = make_client(session)
    assert client.get(f"{V1}/status").json()["state"] == "idle"
    body = to_dict(good_config(images))
    started = client.post(f"{V1}/train", json=body)
    assert started.status_code == 200, started.text
    assert client.post(f"{V1}/train", json=body).status_code == 409
    assert client.post(f"{V1}/save").status_code == 200
    assert client.post(f"{V1}/sample").status_code == 200
    engine.allow(1)
    assert client.post(f"{V1}/stop", json={"discard": False}).status_code == 200
    session.join(5)
    status = client.get(f"{V1}/status").json()
    assert status["task_id"] == started.json()["task_id"]
    assert status["state"] == "stopped"
    assert status["words"] == "<lora:zog-bundle:1> zog"
    assert status["config"] == body


def test_core_tags_are_suggested_over_http(session, images):
    client = make_client(session)
    for path in images.glob("*.txt"):
        path.write_text(f"zog, red hair, horns, {path.stem}")
    body = to_dict(good_config(images))
    answer = client.post(f"{V1}/core_tags", json=body)
    assert answer.status_code == 200, answer.text
    (concept,) = answer.json()["concepts"]
    assert concept["name"] == "zog" and concept["core_tags"] == ["horns", "red hair"]
    assert client.post(f"{V1}/core_tags", json={**body, "data_folder": str(images / "none")}).status_code == 422
    assert client.post(f"{V1}/core_tags", json={**body, "rank": "x"}).status_code == 422
    assert make_client(session, {"u": "p"}).post(f"{V1}/core_tags", json=body).status_code == 401


def test_captions_are_shown_as_they_are_trained(session, images):
    client = make_client(session)
    config = to_dict(good_config(images))
    answer = client.post(f"{V1}/captions", json={"config": config, "step": 2})
    assert answer.status_code == 200, answer.text
    assert answer.json()["step"] == 2
    assert len(answer.json()["captions"]) == config["batch_size"] * config["accumulation"]
    item = answer.json()["captions"][0]
    assert {"image", "kind", "text", "is_mirrored"} <= set(item)
    varied = client.post(f"{V1}/captions", json={"config": config, "image": item["image"], "count": 20}).json()
    assert len(varied["draws"]) == 20 and sum(varied["kinds"].values()) == pytest.approx(1)
    for body in (
        {},
        [],
        {"config": 3},
        {"config": config, "step": 0},
        {"config": config, "step": True},
        {"config": config, "stop": 1},
        {"config": config, "image": "none.png"},
        {"config": {**config, "batch_size": 0}},
        {"config": {**config, "data_folder": ""}},
    ):
        refused = client.post(f"{V1}/captions", json=body)
        assert refused.status_code == 422 and refused.json()["problems"][0]["hint"], body


def test_bad_settings_are_listed_completely(session):
    client = make_client(session)
    answer = client.post(f"{V1}/train", json={"rank": -1, "batch_size": 0, "concepts": [{"name": "a,b"}]})
    assert answer.status_code == 422
    fields = {problem["field"] for problem in answer.json()["problems"]}
    assert {"rank", "batch_size", "data_folder", "output_name", "concepts[0].name"} <= fields
    assert all(problem["hint"] for problem in answer.json()["problems"])
    assert answer.json()["message"].startswith("5 problems")
    # A value of a wrong type hides no other problem.
    for route in ("check", "train"):
        body = {"unet_lr": "fast", "concepts": [7, {"name": "a,b"}], "output_name": "x"}
        problems = client.post(f"{V1}/{route}", json=body).json()["problems"]
        found = [problem["field"] for problem in problems]
        assert found == ["unet_lr", "concepts[0]", "concepts[1].name", "data_folder"]
    for body in (["no object"], {"stepps": 3}):
        assert client.post(f"{V1}/train", json=body).status_code == 422
    assert session.status()["state"] == "idle"


def test_check_answers_without_starting(session, images):
    client = make_client(session)
    good = client.post(f"{V1}/check", json=to_dict(good_config(images))).json()
    assert good["ok"] is True
    bad = client.post(f"{V1}/check", json={"stepps": 3}).json()
    assert bad["ok"] is False
    assert "steps" in bad["problems"][0]["hint"]
    assert session.status()["state"] == "idle"


def test_a_data_report_says_what_each_concept_gets(session, images):
    client = make_client(session)
    answer = client.post(f"{V1}/data_report", json=to_dict(good_config(images, steps=0)))
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert (report["images"], report["steps"], report["samples"]) == (6, 600, 1200), "6 images, each seen 200 times"
    (row,) = report["rows"]
    assert (row["name"], row["images"], row["alone"], row["share"]) == ("zog", 6, 6, 1.0)
    assert (row["fewest_views"], row["most_views"], row["remark"]) == (200.0, 200.0, "")
    assert report["memory"] is None
    session.host.memory = DeviceMemory("sd1", unet=2**31, text_encoders=2**28, vae=2**27, available=2**33)
    memory = client.post(f"{V1}/data_report", json=to_dict(good_config(images))).json()["memory"]
    assert memory["peak"] == max(memory["training"], memory["encoding"]) > memory["unet"] == 2**31
    assert (memory["available"], memory["missing"]) == (2**33, 0)
    for bad in ({"data_folder": str(images / "none")}, {"rank": -1}, []):
        answer = client.post(f"{V1}/data_report", json=bad)
        assert answer.status_code == 422
        assert answer.json()["problems"]
    assert session.status()["state"] == "idle"


def test_presets_are_listed_and_filled_in(session):
    client = make_client(session)
    listed = client.get(f"{V1}/presets").json()["presets"]
    assert {"name", "title", "why", "family", "settings", "concept"} == set(listed[0])
    mine = {"rank": 5, "concepts": [{"name": "zog"}, {"name": "mib", "vectors": 9}]}
    answer = client.post(f"{V1}/presets", json={"preset": "style-sdxl", "config": mine})
    assert answer.status_code == 200, answer.text
    config = answer.json()["config"]
    assert (config["rank"], config["conv_rank"], config["resolution"]) == (5, 8, 1024)
    assert [concept["vectors"] for concept in config["concepts"]] == [8, 9]
    for bad in ({}, [], {"preset": 3}, {"preset": "styl-sdxl"}, {"preset": "style-sdxl", "config": {"stepps": 1}}):
        answer = client.post(f"{V1}/presets", json=bad)
        assert answer.status_code == 422, bad
        assert answer.json()["problems"][0]["hint"]
    assert "style-sdxl" in client.post(f"{V1}/presets", json={"preset": "styl-sdxl"}).json()["problems"][0]["hint"]


def test_import_returns_settings_and_what_is_not_used(session, tmp_path):
    client = make_client(session)
    path = tmp_path / "training.json"
    path.write_text('{"network_dim": "8", "unet_lr": "1e-4", "noise_offset": 0.1, "lr_scheduler": "linear"}')
    answer = client.post(f"{V1}/import", json={"path": f" {path} "}).json()
    assert (answer["config"]["rank"], answer["config"]["unet_lr"]) == (8, 1e-4)
    assert answer["unused"] == ["lr_scheduler"]
    assert [problem["severity"] for problem in answer["problems"]] == ["warning"]
    assert "kohya" in answer["kind"]
    # The settings can be sent back as they are.
    assert client.post(f"{V1}/check", json=answer["config"]).status_code == 200
    assert session.status()["state"] == "idle"
    for body in ({}, {"path": 3}, [], {"path": ""}, {"path": str(tmp_path / "none.json")}, {"path": "a\0b"}):
        assert client.post(f"{V1}/import", json=body).status_code == 422, body


def test_requests_without_a_run_are_refused(session):
    client = make_client(session)
    for name in ("stop", "save", "sample"):
        answer = client.post(f"{V1}/{name}")
        assert answer.status_code == 409, name
        assert answer.json()["message"]


@pytest.mark.parametrize("body", [{"discard": "yes"}, [], "text"])
def test_stop_refuses_what_it_does_not_understand(session, body):
    assert make_client(session).post(f"{V1}/stop", json=body).status_code == 422


def test_credentials_are_asked_for(session, images, engine):
    client = make_client(session, {"anna": "pa:ss", "bert": "secret"})
    body = to_dict(good_config(images))
    assert client.get(f"{V1}/presets").status_code == 401
    for name in (
        "train",
        "check",
        "data_report",
        "presets",
        "stop",
        "save",
        "sample",
        "captions",
        "core_tags",
        "import",
    ):
        assert client.post(f"{V1}/{name}", json=body).status_code == 401, name
        assert client.post(f"{V1}/{name}", json=body, auth=("anna", "ü")).status_code == 401, name
        assert client.post(f"{V1}/{name}", json=body, auth=("nobody", "")).status_code == 401, name
    assert session.status()["state"] == "idle"
    assert client.post(f"{V1}/check", json=body, auth=("anna", "pa:ss")).status_code == 200
    assert client.post(f"{V1}/train", json=body, auth=("bert", "secret")).status_code == 200
    # Without a login the status contains no path, caption or name.
    status = client.get(f"{V1}/status")
    assert set(status.json()) == set(PUBLIC)
    assert "zog" not in status.text
    assert str(images.parent) not in status.text
    assert client.get(f"{V1}/status", auth=("anna", "no")).status_code == 401
    assert client.get(f"{V1}/status", auth=("anna", "pa:ss")).json()["config"]["output_name"] == "zog-bundle"


FOREIGN = {"Origin": "https://evil.example.com", "Sec-Fetch-Site": "cross-site"}


@pytest.mark.parametrize("name", ["check", "data_report", "presets", "train", "stop", "save", "sample", "import"])
def test_other_sites_are_refused(session, images, engine, name):
    credentials = {"anna": "secret"}
    for given in ({}, credentials):
        client = make_client(session, given)
        login = ("anna", "secret") if given else None
        body = None if name in ("stop", "save", "sample") else to_dict(good_config(images))
        for headers in (FOREIGN, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://x:1"}):
            answer = client.post(f"{V1}/{name}", json=body, headers=headers, auth=login)
            assert answer.status_code == 403, (headers, answer.text)
            assert "another site" in answer.json()["message"]
            assert "--cors-allow-origins" in answer.json()["hint"]
    assert session.status()["state"] == "idle"


def test_pages_of_other_sites_cannot_stop_or_discard_a_run(session, images, engine):
    client = make_client(session)
    client.post(f"{V1}/train", json=to_dict(good_config(images))).raise_for_status()
    form = {"Content-Type": "application/x-www-form-urlencoded", **FOREIGN}
    for content, headers in ((None, FOREIGN), (b'{"discard": true}', FOREIGN), (b"", form), (b"a=b", form)):
        assert client.post(f"{V1}/stop", content=content, headers=headers).status_code == 403
    assert not session.status()["is_stopping"]
    # The same by the webui's own page, and by a program.
    own = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
    assert client.post(f"{V1}/save", headers=own).status_code == 200
    assert client.post(f"{V1}/stop").status_code == 200


def test_a_site_that_the_user_allows_may_ask(session):
    client = make_client(session, is_trusted=lambda origin: origin == "https://evil.example.com")
    assert client.post(f"{V1}/check", json={}, headers=FOREIGN).status_code == 200
    assert client.post(f"{V1}/check", json={}, headers={**FOREIGN, "Origin": "https://x"}).status_code == 403


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "é"])
def test_a_body_must_be_declared_as_json(session, kind):
    headers = {} if kind is None else {"Content-Type": kind.encode("utf-8")}
    client = make_client(session)
    answer = client.post(f"{V1}/check", content=b"{}", headers=headers)
    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json()["hint"]
    # An empty body needs no type.
    assert client.post(f"{V1}/stop", content=b"", headers=headers).status_code == 409
    for good in ("application/json", "Application/JSON; charset=utf-8"):
        assert client.post(f"{V1}/check", content=b"{}", headers={"Content-Type": good}).status_code == 200


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe{\0}\0",
        b"\xe9",
        b"[" * 100_000,
        b'{"a": ' * 100_000,
        b'{"data_folder": "C:\\Users"}',
    ],
    ids=lambda body: repr(body)[:12],
)
def test_a_body_that_is_not_json_is_a_problem(session, body):
    for name in ("check", "train"):
        answer = make_client(session).post(f"{V1}/{name}", content=body, headers=JSON)
        assert answer.status_code == 422
        (problem,) = answer.json()["problems"]
        assert problem["field"] == "config"
        assert problem["hint"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"\\ud800": 1, "data_folder": "\\udc00", "concepts": [{"name": "\\ud8ff"}]}',
        b'{"steps": ' + b"9" * 5000 + b"}",
        b'{"output_name": "' + b"n" * 300 + b'"}',
        b'{"data_folder": "' + b"n" * 300 + b'"}',
        b'{"data_folder": "~nosuchuser/x"}',
        b'{"output_name": "' + b"n" * 900_000 + b'"}',
    ],
    ids=lambda body: repr(body)[:24],
)
def test_hostile_values_get_short_answers_in_utf8(session, body):
    for name, status in (("check", 200), ("train", 422)):
        answer = make_client(session).post(f"{V1}/{name}", content=body, headers=JSON)
        assert answer.status_code == status
        assert answer.json()["problems"]
        assert len(answer.content) < 5000
        answer.content.decode("utf-8")
        assert not re.search(rb"\\ud[89a-f]", answer.content.replace(b"\\\\", b""))


def test_a_body_that_is_too_long_is_refused(session):
    client = make_client(session)
    sent = iter([b" " * 2**20] * 3)
    for content in (b" " * (2**20 + 1), sent):
        answer = client.post(f"{V1}/check", content=content, headers=JSON)
        assert answer.status_code == 413
        assert "KiB" in answer.json()["message"]
    assert client.post(f"{V1}/check", content=b" " * (2**20 - 2) + b"{}", headers=JSON).status_code == 200


def test_nan_and_invalid_file_names_do_not_break_an_answer(session, monkeypatch):
    status = {**session.status(), "loss": float("nan"), "losses": [[1, float("inf"), 0.5]], "log_path": "caf\udce9"}
    monkeypatch.setattr(session, "status", lambda: status)
    answer = make_client(session).get(f"{V1}/status").json()
    assert (answer["loss"], answer["losses"], answer["log_path"]) == (None, [[1, None, 0.5]], "caf\\udce9")


def test_an_unexpected_error_gives_an_answer(session, host, monkeypatch):
    monkeypatch.setattr(host, "taken_names", lambda: 1 / 0)
    answer = make_client(session).post(f"{V1}/check", json={})
    assert answer.status_code == 500
    assert "ZeroDivisionError" in answer.json()["message"]


def test_the_documentation_names_every_route_and_field(session):
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    client = make_client(session)
    routes = [route.path for route in client.app.routes if route.path.startswith(V1)]
    assert len(routes) > 5
    for word in [*routes, *(f"`{name}`" for name in session.status())]:
        assert word in text, word


def finished_run(client, session, engine, images, **changes) -> str:
    body = to_dict(good_config(images, steps=2, **changes))
    started = client.post(f"{V1}/train", json=body)
    assert started.status_code == 200, started.text
    engine.allow(2)
    session.join(5)
    return Path(started.json()["run_folder"]).name


def test_past_runs_over_http(session, engine, images):
    client = make_client(session)
    assert client.get(f"{V1}/runs").json() == {"runs": [], "total": 0}
    first = finished_run(client, session, engine, images)
    second = finished_run(client, session, engine, images, output_name="other", rank=8)
    listed = client.get(f"{V1}/runs").json()
    assert {run["name"] for run in listed["runs"]} == {first, second} and listed["total"] == 2
    assert {run["state"] for run in listed["runs"]} == {"finished"}
    assert len(client.get(f"{V1}/runs?count=1&first=1").json()["runs"]) == 1
    one = client.get(f"{V1}/runs/{first}").json()
    assert one["name"] == first and one["samples"]
    for route in ("delete_states", "delete_steps"):
        assert client.post(f"{V1}/{route}", json={"run": first}).json() == {"freed_bytes": 0}
    assert client.post(f"{V1}/compare_runs", json={"runs": [first, second]}).status_code == 200
    for route, body in (
        ("resume", {"run": first}),
        ("resume", {"run": "none"}),
        ("resume", {"run": first, "steps": -1}),
        ("resume", {"run": first, "config": {"stepps": 1}}),
        ("resume", {"steps": 5}),
        ("delete_states", {"run": "../" + first}),
        ("delete_states", {"run": 3}),
        ("choose_step", {"run": "none", "step": 1}),
        ("choose_step", {"run": first, "stepp": 1}),
        ("compare_runs", {"runs": [first]}),
        ("compare_runs", {}),
        ("length", {"stepps": 1}),
    ):
        refused = client.post(f"{V1}/{route}", json=body)
        assert refused.status_code == 422 and refused.json()["problems"], (route, body)
    assert client.get(f"{V1}/runs/none").status_code == 422
    assert client.get(f"{V1}/runs?count=x").status_code == 422


def test_the_queue_over_http(session, engine, images):
    client = make_client(session)
    configs = [to_dict(good_config(images, steps=1, output_name=name)) for name in ("a", "b", "c")]
    for config in configs:
        answer = client.post(f"{V1}/queue", json={"action": "add", "config": config})
        assert answer.status_code == 200, answer.text
    assert session.status()["state"] == "idle"
    items = answer.json()["items"]
    moved = client.post(f"{V1}/queue", json={"action": "move", "id": items[2]["id"], "by": -2}).json()
    assert [item["config"]["output_name"] for item in moved["items"]] == ["c", "a", "b"]
    client.post(f"{V1}/queue", json={"action": "remove", "id": items[0]["id"]}).raise_for_status()
    assert client.post(f"{V1}/queue", json={"action": "start"}).json()["is_going"]
    engine.allow(2)
    deadline = 2000
    while any(item["state"] in ("waiting", "running") for item in client.get(f"{V1}/queue").json()["items"]):
        deadline -= 1
        assert deadline, "waited too long"
    assert [config.output_name for config in engine.configs] == ["c", "b"]
    for body in (
        {},
        {"action": "explode"},
        {"action": "move", "id": "none"},
        {"action": "remove"},
        {"action": "add", "config": configs[1] | {"rank": -1}},
        {"action": "add", "run": "none"},
    ):
        refused = client.post(f"{V1}/queue", json=body)
        assert refused.status_code == 422 and refused.json()["problems"], body
    assert client.post(f"{V1}/queue", json={"action": "stop"}).status_code == 200


def test_the_length_of_a_run_over_http(session, images):
    client = make_client(session)
    length = client.post(f"{V1}/length", json=to_dict(good_config(images, steps=0))).json()
    assert (length["steps"], length["images"], length["samples"]) == (600, 6, {"zog": 1200})


def test_runs_and_queue_need_a_login(session):
    client = make_client(session, {"anna": "secret"})
    for route in ("runs", "runs/x", "queue"):
        assert client.get(f"{V1}/{route}").status_code == 401
    for route in ("resume", "compare_runs", "choose_step", "delete_states", "delete_steps", "queue", "length"):
        assert client.post(f"{V1}/{route}", json={}).status_code == 401
        answer = client.post(f"{V1}/{route}", json={}, headers=FOREIGN, auth=("anna", "secret"))
        assert answer.status_code == 403


def test_a_comparison_over_http(session, host, monkeypatch):
    found = {"lora": {"layers": 2, "parts": {"unet": 2}}, "embeddings": {"zog": {}}, "family": "SD1", "metadata": {}}
    monkeypatch.setattr("lib_pivotal.app.comparison._describe", lambda path: found)
    (host.lora_folder() / "y.safetensors").write_bytes(b"bundle")
    client = make_client(session)
    assert client.get(f"{V1}/compare").json()["state"] == "idle"
    assert client.post(f"{V1}/compare").status_code == 422, "there is no bundle of a run"
    assert client.post(f"{V1}/compare", json={"bundle": "y", "seed": "1"}).status_code == 422
    host.compare.gate = threading.Semaphore(1)
    started = client.post(f"{V1}/compare", json={"bundle": "y", "prompts": ["zog"], "seed": 3})
    assert started.status_code == 200, started.text
    assert client.post(f"{V1}/compare", json={"bundle": "y"}).status_code == 409
    assert client.post(f"{V1}/compare_stop").status_code == 200
    comparison_for(session).join(5)
    assert client.post(f"{V1}/compare_stop").status_code == 409
    status = client.get(f"{V1}/compare").json()
    assert (status["state"], status["task_id"]) == ("stopped", started.json()["task_id"])
    assert make_client(session, {"u": "p"}).get(f"{V1}/compare").status_code == 401


def test_fusing_over_http(session, host, monkeypatch):
    def work(paths, model, out, *, progress, stopped, **options):
        while not stopped():
            time.sleep(0.01)
        raise Interrupted("stopped")

    monkeypatch.setattr("lib_pivotal.app.fusing._clip_skip", lambda _: 1)
    monkeypatch.setattr(fusing_for(session), "_fuse", work)
    for name in ("x", "y"):
        (host.lora_folder() / f"{name}.safetensors").write_bytes(b"bundle")
    client = make_client(session)
    assert client.get(f"{V1}/fuse").json()["state"] == "idle"
    for body in ({}, {"bundles": ["x"]}, {"bundles": ["x", "gone"]}, {"bundles": ["x", "y"], "rank": -1}):
        assert client.post(f"{V1}/fuse", json=body).status_code == 422, body
    started = client.post(f"{V1}/fuse", json={"bundles": ["x", "y"]})
    assert started.status_code == 200, started.text
    assert client.post(f"{V1}/fuse", json={"bundles": ["x", "y"]}).status_code == 409
    assert client.post(f"{V1}/fuse_stop").status_code == 200
    fusing_for(session).join(5)
    assert client.post(f"{V1}/fuse_stop").status_code == 409
    status = client.get(f"{V1}/fuse").json()
    assert (status["state"], status["task_id"]) == ("stopped", started.json()["task_id"])
    assert make_client(session, {"u": "p"}).get(f"{V1}/fuse").status_code == 401
