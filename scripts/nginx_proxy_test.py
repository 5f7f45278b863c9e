"""Starts nginx with the repository's configuration on a Unix socket, a small server behind it on another, and
looks at what passes: upgrades and streams do, internal paths and claimed addresses do not, what fails is repeated where
that does no harm, and no log ever holds a token. Needs nginx on the PATH and nothing beside the standard library; any user may run it."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

TOKEN = "eyJ.this-must-not-be-logged.sig"
ROOT = pathlib.Path(__file__).resolve().parent.parent
# Of internal listeners, also in spellings that a server behind might take for the same.
CLOSED = [
    *("/metrics", "/live", "/ready", "/metrics?x=1", "//ready", "/./ready", "/api/../ready", "/%72eady", "/ready#x"),
    *("/api/v1/publish", "/api/v1/publish/batch", "/api/v1/publish/stream", "/api/v1//publish", "/api/v1/x/../publish"),
    *("/api/v1/%70ublish", "/api/v1/control", "/api/v1/control/sessions", "http://h/api/v1/control/trace"),
]
DEADLINE = 10  # seconds for any single read


class Upstream:
    """One answer for each path; keeps the requests it saw."""

    def __init__(self, path, breaks=False):
        self.path = path
        # It takes requests and goes away before it answers.
        self.breaks = breaks
        self.seen = []
        self.second_event_may_go = threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        os.chmod(path, 0o777)
        self.listener.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        conn.settimeout(DEADLINE)
        with conn:
            head = read_until(conn, b"\r\n\r\n").decode()
            self.seen.append(head)
            target = head.split(" ")[1]
            if self.breaks:
                return
            if target.startswith("/ws"):
                conn.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                while data := conn.recv(1024):
                    conn.sendall(data)
            elif target.startswith("/api/v1/sse"):
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n")
                self.second_event_may_go.wait(DEADLINE)
                conn.sendall(b"data: 2\n\n")
            else:
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    def close(self):
        # shutdown wakes the thread in accept(); close alone would leave it, and the socket, alive
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.path.unlink()


def read_until(conn, mark):
    data = b""
    while mark not in data:
        more = conn.recv(4096)
        if not more:
            break
        data += more
    return data


def connect(path):
    conn = socket.socket(socket.AF_UNIX)
    conn.settimeout(DEADLINE)
    conn.connect(str(path))
    return conn


def status(edge, target, headers="", method="GET"):
    """Status code of one request."""
    with connect(edge) as conn:
        conn.sendall(f"{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n".encode())
        return int(read_until(conn, b"\r\n").split(b" ")[1])


def start_nginx(work, *hubs):
    """nginx in the foreground with the rendered configuration; returns once it accepts."""
    conf = work / "nginx"
    (work / "log").mkdir()
    for name in ("access.log", "error.log"):
        (work / "log" / name).touch()
    subprocess.run(
        [ROOT / "nginx/render.sh", conf],
        check=True,
        env={
            **os.environ,
            "CARILLON_HUBS": " ".join(f"unix:{hub.path}" for hub in hubs),
            "CARILLON_NGINX_LISTEN": f"unix:{work}/edge.sock",
            "CARILLON_NGINX_LOG": f"{work}/log",
            "CARILLON_NGINX_RUN": f"{work}",
        },
    )
    args = ["nginx", "-p", str(conf), "-e", f"{work}/log/error.log", "-c", str(conf / "nginx.conf")]
    process = subprocess.Popen(args + ["-g", "daemon off;"], stdin=subprocess.DEVNULL)
    while True:
        if process.poll() is not None:
            sys.exit(f"nginx ended at once: {(work / 'log/error.log').read_text()}")
        try:
            connect(work / "edge.sock").close()
            return process
        except OSError:
            try:
                process.wait(0.02)
            except subprocess.TimeoutExpired:
                pass


def exercise(work, edge, upstream):
    # a WebSocket: the upgrade and the query reach the server, then bytes go both ways
    with connect(edge) as conn:
        conn.sendall(
            f"GET /ws?token={TOKEN} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Protocol: bearer.{TOKEN}\r\nReferer: http://h/?token={TOKEN}\r\n\r\n".encode()
        )
        assert b" 101 " in read_until(conn, b"\r\n\r\n"), "no upgrade"
        conn.sendall(b"there and back")
        assert read_until(conn, b"back") == b"there and back"
    assert f"/ws?token={TOKEN}" in upstream.seen[-1] and "Upgrade: websocket" in upstream.seen[-1]

    # server-sent events: the first one arrives while the answer is still open
    with connect(edge) as conn:
        conn.sendall(f"GET /api/v1/sse?token={TOKEN} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert b"data: 1" in read_until(conn, b"data: 1\n"), "the stream is buffered"
        upstream.second_event_may_go.set()
        assert b"data: 2" in read_until(conn, b"data: 2\n")

    # REST: credentials pass, claimed addresses and odd request ids do not, good request ids do
    claims = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Request-Id: no good\r\n"
    assert status(edge, "/api/v1/notifications", f"Authorization: Bearer {TOKEN}\r\n{claims}") == 200
    assert f"Authorization: Bearer {TOKEN}" in upstream.seen[-1]
    assert "6.6.6.6" not in upstream.seen[-1] and "no good" not in upstream.seen[-1]
    assert status(edge, "/api/v1/health", "X-Request-Id: 01J-abc_def.42\r\n") == 200
    assert "X-Request-Id: 01J-abc_def.42" in upstream.seen[-1]

    # what stays inside, and nginx's own health
    before = len(upstream.seen)
    for path in CLOSED:
        assert status(edge, path) == 404, path
    assert status(edge, "/nginx-health") == 200
    assert len(upstream.seen) == before

    # what goes wrong is logged with care, too
    assert status(edge, f"/api/v1/poll?token={TOKEN}", "broken header\r\n") in (200, 400)
    upstream.close()
    assert status(edge, f"/ws?token={TOKEN}", "Upgrade: websocket\r\n") == 502
    assert status(edge, f"/api/v1/notifications?token={TOKEN}") == 502
    return ['"path":"/ws","protocol":"HTTP/1.1","status":101', '"path":"/ws","protocol":"HTTP/1.1","status":502']


def exercise_failures(_work, edge, good, broken):
    """One of two servers takes requests and goes away: what is repeated at the other, and what is not."""
    # It is left out for two seconds after each failure, so its turn has to be waited for.
    end = time.monotonic() + DEADLINE
    for method, code_if_broken in (("POST", 502), ("GET", 200)):
        broken.seen.clear()
        number = 0
        while not broken.seen:
            assert time.monotonic() < end, "the broken server was never asked"
            number += 1
            code = status(edge, f"/api/v1/notifications?{method}={number}", "Content-Length: 0\r\n", method)
            assert code == (code_if_broken if broken.seen else 200), f"{method}: {code}"
            time.sleep(0.02)
        # A POST that the broken one was given may have been carried out; a GET does no harm.
        repeated = any(f"?{method}={number} " in head for head in good.seen)
        assert repeated == (method == "GET"), f"{method}: repeated is {repeated}"
    return []


def check_logs(work, expected):
    for log in sorted((work / "log").iterdir()):
        text = log.read_text()
        assert "this-must-not-be-logged" not in text, f"{log.name} holds a token:\n{text}"
    access = (work / "log/access.log").read_text()
    for line in expected:
        assert line in access, access


def in_folder(run, *breaks):
    """Runs with nginx in front of one server for each of `breaks`; then the logs have to hold what the run says."""
    work = pathlib.Path(tempfile.mkdtemp())
    # nginx's workers are another user when this one is root
    work.chmod(0o755)
    process = None
    try:
        upstreams = [Upstream(work / f"upstream{n}.sock", broken) for n, broken in enumerate(breaks)]
        process = start_nginx(work, *upstreams)
        logged = run(work, work / "edge.sock", *upstreams)
        process.terminate()
        process.wait(DEADLINE)
        check_logs(work, logged)
    finally:
        if process and process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(work)


def main():
    in_folder(exercise, False)
    in_folder(exercise_failures, False, True)
    print("check-deploy: nginx: upgrades, streams, refused paths, retries as meant; no token in any log")


if __name__ == "__main__":
    main()
