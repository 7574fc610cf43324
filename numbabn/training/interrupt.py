"""Ctrl-C that waits for a good moment."""

import signal
import threading


class Interrupt:
    """Context in which the first Ctrl-C is only noted; a second one raises ``KeyboardInterrupt`` at once.

    Signals reach Python's main thread only, so in another thread this does nothing. A process that ignores SIGINT, as
    one started in the background by a shell does, goes on ignoring it.

    Attributes
    ----------
    requested : bool
        Whether Ctrl-C was pressed.
    """

    def __init__(self):
        self.requested = False
        self._previous = None

    def __enter__(self):
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGINT) not in (None, signal.SIG_IGN):
            self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exception):
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _note(self, number, frame):
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
