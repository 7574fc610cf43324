"""A worker's process, seen from the command: asked, waited for up to a timeout, started anew after it died."""

import contextlib
import json
import queue
import subprocess
import tempfile
import threading

TIMEOUT = 300.0
"""Seconds until a worker that does not answer is ended: several times what compiling for a first call takes."""

STARTS = 3
"""Times that a worker is started before it is left alone: some arrays may be too large for it, or all of them."""


class WorkerError(Exception):
    """Why a worker gave no answer."""


class Process:
    """One worker program and the conversation with it; a context manager that leaves no process behind.

    Parameters
    ----------
    command : list of str
        Program that reads a JSON object per line and answers each with one.
    environment : dict of str to str
        All its environment variables.
    greeting : dict
        First request, asked again of each new process.
    """

    def __init__(self, command, environment, greeting):
        self.command, self.environment, self.greeting = command, environment, greeting
        self.starts = 0
        self._process = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()

    def ask(self, do: str, **details) -> dict:
        """The answer to a request; starts the program if it does not run.

        Raises
        ------
        WorkerError
            If the program cannot be started, died, or took longer than ``TIMEOUT``.
        """
        if self._process is None:
            if self.starts == STARTS:
                raise WorkerError(f"left alone after it had ended early or hung {STARTS} times")
            self.greet()
        return self._exchange({"do": do, **details})

    def greet(self) -> dict:
        """The answer to the greeting."""
        self._start()
        return self._exchange(self.greeting)

    def stop(self) -> None:
        """End the program now."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self._errors.close()

    def _start(self):
        self.starts += 1
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        try:
            # In a session of its own: Ctrl-C comes to the command alone, which then ends the workers.
            self._process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise WorkerError(f"cannot be started: {error}") from None
        self._answers = queue.Queue()
        threading.Thread(target=_read, args=(self._process.stdout, self._answers), daemon=True).start()

    def _exchange(self, request):
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=TIMEOUT)
        except BrokenPipeError:
            line = b""
        except queue.Empty:
            self._fail(f"no answer within {TIMEOUT:g} s")
        if not line:
            self._fail(self._death())
        return json.loads(line)

    def _fail(self, reason):
        self.stop()
        raise WorkerError(reason)

    def _death(self):
        """How the program ended, and the last thing it said."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1.0)
        code = self._process.returncode
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "")
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        return f"{how}: {last}" if last else how


def _read(stream, answers):
    """Pass lines on; an empty one is the end."""
    with contextlib.suppress(ValueError):  # closed meanwhile
        for line in stream:
            answers.put(line)
    answers.put(b"")
