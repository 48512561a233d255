"""`python` of the jobs of a workflow, in forks of a process that has imported the libraries.

Most of a job on toy cells is its imports: seconds, where the job itself takes a tenth of one. What
is imported before is of others; scbert and the script come from where the job's own path says.

`PYTHON` is put on the path of the jobs as `python`. It hands its arguments, environment, folder and
streams to this server through a socket, and ends as the fork does: with its exit code. If `python`
is killed, so is the fork.
"""

import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from importlib import import_module
from pathlib import Path

LIBRARIES = (
    *("anndata", "gensim.models", "matplotlib.pyplot", "pandas", "pydantic", "safetensors.torch"),
    *("scipy.stats", "sklearn.discriminant_analysis", "sklearn.linear_model", "sklearn.metrics"),
    *("sklearn.svm", "torch", "torch._dynamo", "torch.distributed"),
)
PYTHON = """#!{program} -ISE
import json, os, socket, sys
if sys.argv[1].startswith("-"):
    os.execv("{program}", ["{program}", *sys.argv[1:]])
job = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect("{address}")
    socket.send_fds(server, [len(job).to_bytes(8)], [0, 1, 2])
    server.sendall(job)
    code = server.recv(1)
sys.exit(code[0] if code else "the process of this job was lost")
"""


def receive(connection):
    """Return a job: the words of its command, its environment and folder; and its streams."""
    size, streams, *_ = socket.recv_fds(connection, 8, 3)
    job = b""
    while len(job) < int.from_bytes(size):
        job += connection.recv(int.from_bytes(size) - len(job))
    return json.loads(job), streams


def run(words, environment, folder, streams):
    """Do what `python` does with these words, in this process."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    found = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [str(Path(words[0]).resolve().parent), *filter(None, found)]
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")


def keep(connection, process):
    """Wait for a job and send its exit code; kill it if who asked for it is gone."""

    def listen():
        connection.recv(1)
        os.kill(process, signal.SIGTERM)

    threading.Thread(target=listen, daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with suppress(BrokenPipeError):
        connection.sendall(bytes([code if code >= 0 else 128 - code]))
    os._exit(0)


def serve(address):
    """Take jobs until the standard input ends; a job returns from here and ends as a program."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()  # who asks before all is imported waits
        for library in LIBRARIES:
            import_module(library)
        while server in select.select([server, sys.stdin], [], [])[0]:
            connection, _ = server.accept()
            if not os.fork():
                return connection
            connection.close()
    sys.exit()


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # or each keeper would stay as a zombie
    asked = serve(sys.argv[1])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    job, given = receive(asked)
    process = os.fork()
    if process:
        keep(asked, process)
    asked.close()
    run(*job, given)
