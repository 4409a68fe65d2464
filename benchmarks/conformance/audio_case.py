"""From samples to log-mel, encoder states and the chunks that drive frames."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor

from benchmarks.conformance.checks import Report
from benchmarks.conformance.folder import Case, fill_by_rule, lookup, state_hash, state_shapes
from engine.audio.chunks import chunk_count, chunk_positions
from engine.audio.log_mel import mel_filters, whisper_log_mel
from engine.media import MEL_HOP_SAMPLES, STEP_SAMPLES
from engine.models.whisper import WhisperEncoder, offline_states
from engine.spec import AudioSpec

_PER_FPS = re.compile(r"(chunk_count|chunk_indices)_(\d+)fps")


def whisper_spec(case: Case) -> AudioSpec:
    """The encoder that the case's dimensions describe."""
    return AudioSpec(
        n_mels=case.get("dims.n_mels"),
        width=case.get("dims.n_audio_state"),
        layers=case.get("dims.n_audio_layer"),
        heads=case.get("dims.n_audio_head"),
        positions=case.get("dims.n_audio_ctx"),
    )


@torch.no_grad()
def check_whisper(case: Case, report: Report, device: str) -> None:
    """Features exactly where they are indices, closely where they are numbers."""
    spec = whisper_spec(case)
    encoder = WhisperEncoder(spec).eval().requires_grad_(False)
    prefix = case.get("weight_key_prefix")
    fill_by_rule(encoder.encoder, case.get("weight_seed"), prefix)
    weights = {prefix + key: value for key, value in encoder.encoder.state_dict().items()}
    stored_hash = case.get("encoder_state_dict_sha256")
    report.equal(case.name, "weights", state_hash(weights), stored_hash)
    report.equal(case.name, "keys and shapes", state_shapes(encoder), case.optional("encoder_keys"))

    pcm = case.array("pcm16")
    samples = pcm.astype(np.float32) / np.float32(32768.0)
    report.equal(case.name, "samples", len(pcm), case.optional("audio.samples"))
    filters = mel_filters(spec.n_mels)
    report.close(case.name, "mel_filters", filters, case.array("mel_filters"), 1e-6)
    mel = whisper_log_mel(samples, spec.n_mels)
    tolerance = case.tolerance("logmel", 2e-4)
    report.close(case.name, "logmel", mel, case.array("logmel"), tolerance)
    report.equal(case.name, "mel frames", mel.shape[1], case.optional("mel_frames"))

    states = offline_states(encoder.to(device), torch.from_numpy(mel).to(device)).cpu()
    report.equal(case.name, "features shape", list(states.shape), case.optional("features_shape"))
    tolerance = case.tolerance("features", 6e-3)
    report.close(case.name, "features", states, case.tensor("features"), tolerance)
    spread = [float(states[:, state].std(correction=0)) for state in range(states.shape[1])]
    report.close(case.name, "spread of states", spread, case.optional("hidden_state_std"), 1e-2)
    frames = case.array("chunk_value_frames").tolist()
    chunks = torch.stack([chunk_tokens(states, frame) for frame in frames])
    report.equal(case.name, "chunk shape", list(chunks.shape[1:]), case.optional("chunk_shape"))
    tolerance = case.tolerance("chunk_values", 1e-4)
    report.close(case.name, "chunk_values", chunks, case.tensor("chunk_values"), tolerance)
    _check_chunk_rules(case, len(states), report)


def chunk_tokens(states: Tensor, frame: int, fps: float = 25) -> Tensor:
    """[tokens, width] of one video frame, row = states * step + state."""
    return states[chunk_positions(frame, len(states), fps)].flatten(0, 1)


def _check_chunk_rules(case: Case, count: int, report: Report) -> None:
    for key, stored in case.data.items():
        match = _PER_FPS.fullmatch(key)
        if match is None:
            continue
        fps = int(match[2])
        if match[1] == "chunk_count":
            report.equal(case.name, key, chunk_count(count, fps), stored)
        else:
            indices = {frame: chunk_positions(int(frame), count, fps) for frame in stored}
            report.equal(case.name, key, indices, stored)
    for row in case.get("chunk_count_table"):
        samples = lookup(row, "samples", case.name)
        mel_frames = samples // MEL_HOP_SAMPLES
        have = {"samples": samples, "mel_frames": mel_frames, "features": samples // STEP_SAMPLES}
        for key in row:
            if match := re.fullmatch(r"chunks_(\d+)fps", key):
                have[key] = chunk_count(have["features"], int(match[1]))
        stored = {key: value for key, value in row.items() if key in have}
        report.equal(case.name, f"chunks of {samples} samples", have, stored)
