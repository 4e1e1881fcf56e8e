"""The dashboard shows studies to this machine, and lets nobody change them."""

from __future__ import annotations

import io
import json
import socket
import sys
from wsgiref.util import setup_testing_defaults

import optuna
import pytest

from attnsearch.core.errors import EnvironmentFault, UsageError
from attnsearch.report import dashboard


def ask(app, path="/", method="GET", host="127.0.0.1:8080", body=b""):
    """Status, headers and body of one request."""
    environ = {"PATH_INFO": path, "REQUEST_METHOD": method, "HTTP_HOST": host, "HTTP_ACCEPT_ENCODING": ""}
    setup_testing_defaults(environ)
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ["CONTENT_TYPE"] = "application/json"
    told = {}

    def start(status, headers, *rest):
        told.update(status=int(status.split()[0]), headers=dict(headers))

    content = b"".join(app(environ, start))
    return told["status"], told["headers"], content


@pytest.fixture(scope="module")
def storage():
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(study_name="mine", storage=storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    return storage


@pytest.fixture(scope="module")
def guarded(storage):
    return dashboard.guard(dashboard.application(storage))


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080"])
def test_this_machine_may_read(guarded, host):
    status, headers, body = ask(guarded, "/api/studies", host=host)
    assert status == 200
    assert "mine" in json.dumps(json.loads(body))
    assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.168.1.5",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_foreign_host_name_is_refused(guarded, host, method):
    status, _, body = ask(guarded, "/api/studies", method, host=host)
    assert status == 403
    assert b"mine" not in body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/studies/0"),
        ("POST", "/api/studies"),
        ("POST", "/api/studies/0/rename"),
        ("PUT", "/api/studies/0/note"),
        ("POST", "/api/trials/0/tell"),
        ("PATCH", "/api/studies"),
        ("OPTIONS", "/api/studies"),
    ],
)
def test_nothing_can_be_changed(guarded, storage, method, path):
    status, headers, _ = ask(guarded, path, method, body=b'{"study_name": "new", "directions": ["minimize"]}')
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"
    assert [study.study_name for study in storage.get_all_studies()] == ["mine"]


def test_without_the_guard_a_study_could_be_deleted(storage):
    """The stock dashboard deletes for anyone: what the guard is for."""
    study = optuna.create_study(study_name="doomed", storage=storage)
    status, _, _ = ask(
        dashboard.application(storage), f"/api/studies/{study._study_id}", "DELETE", "evil.example"
    )
    assert status == 204
    assert [study.study_name for study in storage.get_all_studies()] == ["mine"]


def test_the_page_and_its_script_are_served(guarded):
    status, _, page = ask(guarded, "/dashboard")
    assert status == 200
    assert b"<script" in page
    assert ask(guarded, "/static/bundle.js")[0] == 200


def test_public_means_addresses_not_names(storage):
    app = dashboard.guard(dashboard.application(storage), {"lab7"}, any_address=True)
    assert ask(app, "/api/meta", host="lab7:8080")[0] == 200
    assert ask(app, "/api/meta", host="192.168.1.5:8080")[0] == 200
    assert ask(app, "/api/meta", host="[fe80::1]:8080")[0] == 200
    assert ask(app, "/api/meta", host="evil.example")[0] == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_other_hosts_must_be_meant(host):
    with pytest.raises(UsageError, match="without a login: refused"):
        dashboard.check_place(host, 8080, public=False)
    dashboard.check_place(host, 8080, public=True)


@pytest.mark.parametrize("port", [0, -1, 65536, 70000])
def test_a_port_is_a_port(port):
    with pytest.raises(UsageError, match=r"port out of range: -?\d+ \(1 to 65535\)"):
        dashboard.check_place("127.0.0.1", port, public=False)


def test_a_busy_port_names_a_free_one(guarded):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentFault, match=rf"port {port} is in use, try \d+"):
            dashboard.server(guarded, "127.0.0.1", port)


def test_a_missing_extra_is_named(storage, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'attnsearch\[dashboard\]'"):
        dashboard.application(storage)
