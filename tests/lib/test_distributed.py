import os
import subprocess
import sys

import pytest

CODE = """
import sys
from pathlib import Path
from accelerate import Accelerator
from patchwork.training import distributed

def work(folder):
    main = distributed.is_main_process()
    state = Accelerator(mixed_precision="no", cpu=True)
    agreed = int(main == state.is_main_process)
    Path(folder, f"{state.process_index}_of_{state.num_processes}_{int(main)}_{agreed}").touch()

distributed.launch(work, (sys.argv[1],), int(sys.argv[2]))
"""


def left_by(folder, n_processes: int) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", CODE, str(folder), str(n_processes)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_processes", "expected"),
    [(2, ["0_of_2_1_1", "1_of_2_0_1"]), (1, ["0_of_1_1_1"])],
)
def test_one_of_several_processes_is_the_main_one_however_early(tmp_path, n_processes, expected):
    assert left_by(tmp_path, n_processes) == expected
