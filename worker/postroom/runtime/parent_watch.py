"""A process that was started by another of ours ends in order once that is gone, however that went."""

import os
import signal
import threading
import time

PARENT = "_POSTROOM_PARENT"  # the pid of the process that started this one, in its environment


def end_with_parent() -> None:
    """Watches the parent that the environment names, if it names one. Children must be given their own."""
    if not (parent := int(os.environ.pop(PARENT, "0"))):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
