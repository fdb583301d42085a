import os
import subprocess
import sys

import pytest

from common.startup import override_keras_json, without_startup_lines

NOISE = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"I0000 00:00:1795217265.154778   22478 port.cc:153] oneDNN custom operations are on.\n"
    b"W0000 00:00:1795217265.154778   22478 gpu_device.cc:2342] Cannot dlopen some GPU libraries.\n"
)


def test_start_up_lines_go_and_errors_stay(capfd):
    with without_startup_lines():
        os.write(2, NOISE)
        print("a real error", file=sys.stderr)
        os.write(2, b"E0000 00:00:17 22478 cuda.cc:51] out of memory\n")
    os.write(2, b"afterwards\n")
    said = capfd.readouterr().err
    assert "oneDNN" not in said and "absl" not in said and "dlopen" not in said
    assert said.splitlines() == ["a real error", "E0000 00:00:17 22478 cuda.cc:51] out of memory", "afterwards"]


def test_an_exception_passes_and_stderr_is_back(capfd):
    with pytest.raises(RuntimeError), without_startup_lines():
        os.write(2, b"before the crash\n")
        raise RuntimeError
    os.write(2, b"after it\n")
    assert capfd.readouterr().err == "before the crash\nafter it\n"


def test_importing_tensorflow_says_nothing():
    code = "from common.startup import without_startup_lines\nwith without_startup_lines(): import tensorflow"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment, check=True)
    assert ended.stderr == ""


def test_keras_json_of_another_project_is_overridden_and_named(tmp_path, monkeypatch, caplog):
    keras = pytest.importorskip("keras")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    caplog.set_level("INFO")
    for nothing in (None, "{", "[]", '{"image_data_format": "channels_last", "epsilon": 1}'):
        if nothing is not None:
            (tmp_path / "keras.json").write_text(nothing)
        override_keras_json()
    assert not caplog.text
    (tmp_path / "keras.json").write_text('{"image_data_format": "channels_first", "floatx": "float16"}')
    keras.config.set_image_data_format("channels_first")
    try:
        override_keras_json()
        assert keras.config.image_data_format() == "channels_last" and keras.config.floatx() == "float32"
    finally:
        keras.config.set_image_data_format("channels_last")
    assert "keras.json" in caplog.text and "channels_first" in caplog.text and "is overridden" in caplog.text
