import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from patchwork.jobs import devices

HOLDER = """
import sys, time
from pathlib import Path
import torch
torch.cuda.device_count = lambda: 2
from patchwork.jobs import devices
with devices.lease(int(sys.argv[1]), Path(sys.argv[2])) as device:
    import os
    print(device, os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    time.sleep(60)
"""


@pytest.fixture
def two(monkeypatch):
    """A machine with two GPUs, as far as counting goes."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def taken(n, folder):
    with devices.lease(n, folder) as device:
        return device, os.environ.get("CUDA_VISIBLE_DEVICES")


def test_no_gpu_asked_for_is_the_processor(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert taken(0, tmp_path) == ("cpu", None)
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=r"gpu is 1; this machine shows 0: .*default") as error:
        taken(1, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("two")
def test_each_holder_gets_its_own_and_gives_it_back(tmp_path):
    with devices.lease(1, tmp_path) as first:
        assert (first, os.environ["CUDA_VISIBLE_DEVICES"]) == ("cuda", "0")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert taken(2, tmp_path / "deep" / "down") == ("cuda", "0,1")
    with pytest.raises(ValueError, match="gpu is 3; this machine shows 2"):
        taken(3, tmp_path)


@pytest.mark.usefixtures("two")
def test_two_processes_never_share_a_gpu_and_a_killed_one_frees_its_own(tmp_path):
    library = str(Path(devices.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": library, "OMP_NUM_THREADS": "1"}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, "1", str(tmp_path)],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout.readline().split() == ["cuda", "0"]
        assert taken(1, tmp_path) == ("cuda", "1")
        with pytest.raises(ValueError, match=r"gpu is 2; 1 of 2 are free"):
            taken(2, tmp_path)
        assert taken(1, tmp_path) == ("cuda", "1")  # the failed one kept nothing
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert taken(2, tmp_path) == ("cuda", "0,1")


@pytest.mark.usefixtures("two")
def test_a_clusters_choice_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert taken(2, tmp_path) == ("cuda", "5,7")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,7"
    assert list(tmp_path.iterdir()) == []
