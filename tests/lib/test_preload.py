"""A script that runs in a copy of the server behaves as one that Python runs."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from patchwork.jobs import preload

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux only")


def until(true, what):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    python, process = preload.start(folder, ["threadpoolctl", "fractions"])
    until((folder / "socket").exists, "no socket")
    yield python, process
    process.stdin.close()
    process.wait(60)


def run(python, script, text, **more):
    script.write_text(text)
    return subprocess.run([str(python), str(script)], capture_output=True, text=True, **more)


def test_the_script_sees_its_caller_and_the_shared_libraries(server, tmp_path):
    text = """
        import os, sys
        shared = "fractions" in sys.modules
        import json, helper
        said = [shared, os.getcwd(), os.environ["COLOUR"], os.environ.get("HOME"), sys.argv]
        print(json.dumps([*said, helper.VALUE, __name__, sys.stdin.read()]))
        print("to the other stream", file=sys.stderr)
    """
    (tmp_path / "helper.py").write_text("VALUE = 3")
    (tmp_path / "elsewhere").mkdir()
    script = tmp_path / "job.py"
    done = run(
        server[0], script, "\n".join(line.strip() for line in text.splitlines()),
        cwd=tmp_path / "elsewhere", env={"COLOUR": "red"}, input="typed",
    )  # fmt: skip
    assert done.stderr == "to the other stream\n"
    assert json.loads(done.stdout) == [
        True, str(tmp_path / "elsewhere"), "red", None, [str(script)], 3, "__main__", "typed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("import sys; sys.exit('why')", 1),
        ("def f():\n    return 1 / 0\nf()", 1),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import os; os.kill(os.getpid(), 15)", -15),
    ],
)
def test_status_and_traceback_are_those_of_python(server, tmp_path, text, status):
    script = tmp_path / "job.py"
    copied, plain = (run(python, script, text) for python in (server[0], sys.executable))
    assert copied.returncode == plain.returncode == status
    assert copied.stderr == plain.stderr
    assert "preload" not in copied.stderr


def test_threads_follow_the_environment(server, tmp_path):
    text = """
import numpy, threadpoolctl
print(*(one["num_threads"] for one in threadpoolctl.threadpool_info()))
"""
    done = run(server[0], tmp_path / "job.py", text, env={"OMP_NUM_THREADS": "1"})
    assert set(done.stdout.split()) == {"1"}, done.stderr


def test_a_script_ends_with_its_caller(server, tmp_path):
    script, pid = tmp_path / "job.py", tmp_path / "pid"
    script.write_text(
        f"import os, time\nopen({str(pid)!r} + '_', 'w').write(str(os.getpid()))\n"
        f"os.rename({str(pid)!r} + '_', {str(pid)!r})\ntime.sleep(300)"
    )
    caller = subprocess.Popen([str(server[0]), str(script)])
    until(pid.exists, "the script did not start")
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    until(lambda: not os.path.exists(f"/proc/{pid.read_text()}"), "the script goes on")


def test_anything_else_and_a_lost_server_are_left_to_python(server, tmp_path):
    python, process = server
    done = subprocess.run([str(python), "-c", "print(3)"], capture_output=True, text=True)
    assert done.stdout == "3\n"
    copy = tmp_path / "python"
    copy.write_text(python.read_text())
    copy.chmod(0o700)
    process.stdin.close()
    assert process.wait(60) == 0
    assert not python.exists()
    assert run(copy, tmp_path / "job.py", "print(4)").stdout == "4\n"
