"""What every command does before it does its own."""

import ctypes
import os
import shlex
import subprocess
import sys

import pytest

ARENAS = """
import ctypes, sys, threading
from mic_tf import command

command.keep_heap_small()
libc = ctypes.CDLL(None)
libc.fopen.restype = libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(8)

def allocate():
    libc.malloc(1000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


MAPPED = """
import ctypes, re, sys
from mic_tf import command

command.keep_heap_small()
libc = ctypes.CDLL(None)
libc.fopen.restype = libc.malloc.restype = ctypes.c_void_p

def mapped_bytes():
    file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    text = open(sys.argv[1]).read()
    return int(re.findall(r'type="mmap" count="\\d+" size="(\\d+)"', text)[-1])

libc.free(ctypes.c_void_p(libc.malloc(4 << 20)))  # Raises glibc's own threshold.
before = mapped_bytes()
libc.malloc(3 << 20)
print(mapped_bytes() - before >= 3 << 20)
"""

glibc_only = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallopt"),
    reason="only glibc has arenas",
)


@glibc_only
@pytest.mark.parametrize(("asked", "most"), [(None, 2), ("5", 5)])
def test_threads_share_few_arenas_unless_others_are_asked_for(tmp_path, asked, most):
    environment = {k: v for k, v in os.environ.items() if k != "MALLOC_ARENA_MAX"}
    if asked:
        environment["MALLOC_ARENA_MAX"] = asked
    out = tmp_path / "arenas.xml"
    command = [sys.executable, "-c", ARENAS, str(out)]
    subprocess.run(command, env=environment, check=True)
    assert out.read_text().count("<heap nr=") == most


@glibc_only
@pytest.mark.parametrize(("asked", "is_mapped"), [(None, "True"), ("8388608", "False")])
def test_large_blocks_are_mapped_unless_the_environment_says_no(
    tmp_path, asked, is_mapped
):
    variable = "MALLOC_MMAP_THRESHOLD_"
    environment = {k: v for k, v in os.environ.items() if k != variable}
    if asked:
        environment[variable] = asked
    command = [sys.executable, "-c", MAPPED, str(tmp_path / "heap.xml")]
    finished = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    )
    assert finished.stdout.strip() == is_mapped


def said_by(code: str, *arguments: str | bytes, **environment: str):
    """What a command of this code prints, and its status."""
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    return finished.stdout + finished.stderr, finished.returncode


ASKED = (
    "from absl import flags\nfrom mic_tf import command\n"
    "flags.DEFINE_string('one', '', '')\nflags.DEFINE_list('many', [], '')\n"
    "def main(_):\n    print(flags.FLAGS.one, flags.FLAGS.many)\n"
    "command.run(main)"
)


def test_home_is_found_in_a_flag_and_in_each_entry_of_a_list():
    flags = ("--one=~/a", "--many=~/b,c,~/d")
    found = said_by(ASKED, *flags, HOME="/home/me")
    assert found == ("/home/me/a ['/home/me/b', 'c', '/home/me/d']\n", 0)


@pytest.mark.parametrize("flag", [b"--one=\xff", b"--many=a,\xff"])
def test_a_flag_that_is_no_text_is_one_line_and_status_2(flag):
    said, status = said_by(ASKED, flag)
    name = flag.decode("ascii", "ignore").split("=")[0]
    assert (said, status) == (f"error: {name}=\\udcff: UTF-8 expected\n", 2)
    said, status = said_by(ASKED, "--one=Flöte")
    assert (said, status) == ("Flöte []\n", 0)


def test_what_stands_behind_two_dashes_is_no_flag():
    code = ASKED.replace("def main(_):", "def main(_):\n    print(_)")
    found = said_by(code, "--one=a", "--", "-h", "--help", "--one=b")
    assert found == ("['-h', '--help', '--one=b']\na []\n", 0)
    assert "--many" in said_by(code, "--one=a", "-h", "--")[0]


CLOSED = """
import os, sys
from mic_tf import command

for number in map(int, sys.argv.pop()):
    os.close(number)
    setattr(sys, ("stdin", "stdout", "stderr")[number], None)

def main(arguments):
    with open(arguments[0], "w") as file:
        os.write(1, b"a library's words")
        os.write(2, b"and others")
        print("ours")
        print("ours", file=sys.stderr)
        file.write("content")
    return 3

command.run(main)
"""


@pytest.mark.parametrize("closed", ["0", "1", "2", "01", "12", "012"])
def test_a_closed_stream_is_no_file_of_ours(tmp_path, closed):
    out = tmp_path / "out"
    assert said_by(CLOSED, str(out), closed)[1] == 3
    assert out.read_text() == "content"


PRINTED = """
import sys
from mic_tf import command

def main(arguments):
    command.say("x" * int(arguments[0]))
    return 0

command.run(main)
"""


@pytest.mark.parametrize("length", [1, 100_000])
@pytest.mark.parametrize(
    ("target", "status", "said"),
    [
        ("| true", 0, ""),
        (
            "> /dev/full",
            2,
            "error: standard output: cannot be written: No space left on device\n",
        ),
    ],
)
def test_a_screen_that_takes_nothing_more_ends_in_no_traceback(
    length, target, status, said
):
    program = shlex.join([sys.executable, "-c", PRINTED, str(length)])
    shell = ["bash", "-c", f"{program} {target}; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(shell, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, said)


def test_letters_that_the_screen_does_not_have_end_nothing():
    found = said_by(ASKED, "--one=Flöte", PYTHONIOENCODING="ascii")
    assert found == ("Fl\\xf6te []\n", 0)


@pytest.mark.parametrize("small_heap", [True, False])
def test_a_command_may_leave_the_heap_as_it_is(small_heap):
    code = (
        "import os\nfrom mic_tf import command\n"
        "def main(_):\n    print(sorted(v for v in os.environ if 'MALLOC' in v))\n"
        f"command.run(main, small_heap={small_heap})"
    )
    environment = {k: v for k, v in os.environ.items() if "MALLOC" not in k}
    finished = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert ("MALLOC_TRIM_THRESHOLD_" in finished.stdout) is small_heap
    assert finished.stdout.startswith("[")
