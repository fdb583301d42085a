import subprocess
import sys


def test_run_folders_are_read_without_keras():
    code = "import sys; from common.runs import Run, is_finished, atomic; assert 'keras' not in sys.modules, 'keras was imported'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_public_name_is_found():
    import common.runs

    assert all(callable(getattr(common.runs, name)) for name in common.runs.__all__)
    assert not hasattr(common.runs, "something_else")
