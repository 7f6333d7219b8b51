"""Writes model.onnx, speech.npz and stream.npz: silero VAD (16 kHz, static shapes) and a real conversation.

    python suites/models/silero_vad/make.py

Needs pip, onnxruntime and the installed harness; both packages are pinned, each file by its sha256.
The recurrent state of every frame is the one that the model itself has there, run over the whole clip.
`speech.npz` holds frames from all over the clip, `stream.npz` of silero_vad_stream frames that follow on.
"""

from __future__ import annotations

import io
import shutil
import wave
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from harness.spec.fetching import fetch_members
from harness.spec.model_spec import PackageMember
from harness.spec.stored import assets_folder, stored_path

HERE = Path(__file__).parent
RATE_HZ, FRAME, CONTEXT = 16000, 512, 64
FIRST, STEP, FRAMES = 216, 379, 192
STREAM = slice(210, 402)
MODEL = PackageMember(
    package="silero-vad==6.2.3",
    member="silero_vad/data/silero_vad_openvino_16k.onnx",
    sha256="7776b81ad1b0350c15d7f1555943b9232eb53e9ca5d989c6d0cea9ebc8664d87",
)
CLIP = PackageMember(
    package="pyannote-audio==4.0.7",
    member="pyannote/audio/sample/sample.wav",
    sha256="c319b4abca767b124e41432d364fd7df006cb26bb79d09326c487d606a134e6e",
)
TURNS = PackageMember(
    package="pyannote-audio==4.0.7",
    member="pyannote/audio/sample/sample.rttm",
    sha256="d78fe62c69d8e6dcbb42c26adfce83faccb374c5a1e6d987fe37f85f1c173c87",
)


def frames(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Frames of 512 samples, each behind the last 64 of the one before: [n, 1, 576]."""
    count = len(samples) // FRAME
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples])
    return np.stack([padded[None, i * FRAME : i * FRAME + CONTEXT + FRAME] for i in range(count)])


def states(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The state that the model is in before every frame: [n, 2, 1, 128]."""
    session = onnxruntime.InferenceSession(stored_path(MODEL), providers=["CPUExecutionProvider"])
    found = [np.zeros((2, 1, 128), np.float32)]
    for frame in inputs:
        found.append(session.run(["stateN"], {"input": frame, "state": found[-1]})[0])
    return np.stack(found[:-1])


def speech(count: int) -> NDArray[np.int64]:
    """1 for every frame whose middle lies in a speaker's turn, as annotated by hand."""
    turns = [line.split() for line in stored_path(TURNS).read_text().splitlines()]
    middles = (np.arange(count) + 0.5) * FRAME / RATE_HZ
    spoken = [(float(t[3]) <= middles) & (middles < float(t[3]) + float(t[4])) for t in turns]
    return np.any(spoken, axis=0).astype(np.int64)


def main() -> None:
    """Fetch, cut to size, write."""
    fetch_members([MODEL, CLIP, TURNS], assets_folder(), print)
    with wave.open(io.BytesIO(stored_path(CLIP).read_bytes())) as clip:
        samples = np.frombuffer(clip.readframes(clip.getnframes()), np.int16).astype(np.float32) / 32768
    inputs = frames(samples)
    # The first frame is speech; the step is prime, so that any part of the frames is a mix of the whole clip.
    part = (FIRST + STEP * np.arange(FRAMES)) % len(inputs)
    arrays = {"frames": inputs, "states": states(inputs), "speech": speech(len(inputs))}
    stream = HERE.with_name("silero_vad_stream") / "stream.npz"
    np.savez_compressed(HERE / "speech.npz", **{name: array[part] for name, array in arrays.items()})
    np.savez_compressed(stream, **{name: array[STREAM] for name, array in arrays.items()})
    shutil.copyfile(stored_path(MODEL), HERE / "model.onnx")


if __name__ == "__main__":
    main()
