"""Optuna's dashboard, read-only and for this machine alone.

The stock dashboard has no login, answers under any host name (so a web page may reach it by DNS rebinding) and lets
anyone delete studies. `guard` stands before it: foreign host names are refused with 403, everything but reading
with 405.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable, Collection, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from attnsearch.core.errors import EnvironmentFault, UsageError

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

LOCAL = ("127.0.0.1", "localhost", "::1")
READING = ("GET", "HEAD")
PORT = 8080
MANY_TRIALS = 20_000  # from here on the dashboard needs gigabytes and minutes


def application(storage: Any) -> Application:
    """The dashboard of a storage, as Optuna ships it, without a language model and without artifacts.

    Raises:
        EnvironmentFault: the extra is not installed.
    """
    try:
        import optuna_dashboard
    except ImportError:
        raise EnvironmentFault(
            "the dashboard is not installed: pip install 'attnsearch[dashboard]'"
        ) from None
    return optuna_dashboard.wsgi(storage)  # type: ignore[no-any-return]


def guard(app: Application, hosts: Collection[str] = LOCAL, *, any_address: bool = False) -> Application:
    """`app` for readers who ask for one of `hosts`.

    Args:
        hosts: names that a request's Host header may have, whatever the port.
        any_address: bare IP addresses pass too. Rebinding needs a name, so this is safe from it.
    """

    def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        host = _host_name(environ.get("HTTP_HOST", ""))
        if host not in hosts and not (any_address and _is_address(host)):
            return _refuse(start_response, "403 Forbidden", "this host name is not served here")
        if environ.get("REQUEST_METHOD") not in READING:
            return _refuse(
                start_response, "405 Method Not Allowed", "read-only", ("Allow", ", ".join(READING))
            )

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            # No other site may show the dashboard in a frame or read what it serves.
            own = [("X-Frame-Options", "DENY"), ("Cross-Origin-Resource-Policy", "same-origin")]
            return start_response(status, [*headers, *own], *rest)

        return app(environ, start)

    return guarded


def check_place(host: str, port: int, *, public: bool) -> None:
    """Raise `UsageError` for a port that is none, and for a host beyond this machine unless it is meant."""
    if not 1 <= port <= 65535:
        raise UsageError(f"port out of range: {port} (1 to 65535)")
    if host not in LOCAL and not public:
        raise UsageError(
            f"--host {host} would show your studies to the network, without a login: refused. "
            "Use an SSH tunnel to 127.0.0.1, or add --i-know-it-is-public"
        )


def server(app: Application, host: str, port: int, *, public: bool = False) -> WSGIServer:
    """A server bound to its place, guarded; `serve_forever` runs it.

    Raises:
        UsageError: as `check_place`.
        EnvironmentFault: the port is taken, or not ours to take.
    """
    check_place(host, port, public=public)
    names = {*LOCAL, host, socket.gethostname(), socket.getfqdn()} if public else {*LOCAL}
    kind = _Server6 if ":" in host else _Server
    try:
        return make_server(host, port, guard(app, names, any_address=public), kind, _Quiet)
    except PermissionError:
        raise EnvironmentFault(f"port {port} needs more rights than yours, try {PORT}") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise EnvironmentFault(f"port {port} is in use, try {_free_port(host, port)}") from None
        raise EnvironmentFault(f"cannot listen on {host}:{port}: {error.strerror}") from None


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """One line per request would bury the address to open."""


def _host_name(header: str) -> str:
    """The Host header without its port, in lower case: `[::1]:8080` is `::1`."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _refuse(start_response: Any, status: str, why: str, *headers: tuple[str, str]) -> list[bytes]:
    body = f"{status}: {why}\n".encode()
    plain = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(status, [*plain, *headers])
    return [body]


def _free_port(host: str, port: int) -> int:
    """The next port above that nobody listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port + 1, min(port + 100, 65536)):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if probe.connect_ex((host, candidate)) != 0:
                return candidate
    return PORT


__all__ = ["LOCAL", "application", "check_place", "guard", "server"]
