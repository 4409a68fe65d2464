"""The Whisper-shaped audio encoder, at any width, depth and length.

Keys are those of the released whisper checkpoints under `encoder.`, so that
the encoder half of one loads as it is. The network is driven by hidden states
from before the final norm, which is therefore held but never applied.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.models.attention import attend
from engine.spec import AUDIO_STEPS, AudioSpec


def sinusoids(positions: int, width: int) -> Tensor:
    """[positions, width] Whisper's position table: sines, then cosines."""
    step = math.log(10_000.0) / (width // 2 - 1)
    scales = torch.exp(-step * torch.arange(width // 2))
    angles = torch.arange(positions)[:, None] * scales[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class SelfAttention(nn.Module):
    """Bidirectional self-attention over encoder positions; keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, positions, width = x.shape
        shape = (batch, positions, self.heads, width // self.heads)
        q = self.query(x).view(shape).transpose(1, 2)
        k = self.key(x).view(shape).transpose(1, 2)
        v = self.value(x).view(shape).transpose(1, 2)
        mixed = attend(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, positions, width))  # type: ignore[no-any-return]


class EncoderBlock(nn.Module):
    """Attention and a feed-forward, each behind its own norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = SelfAttention(width, heads)
        self.attn_ln = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.mlp_ln = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.attn_ln(x))
        return x + self.mlp(self.mlp_ln(x))  # type: ignore[no-any-return]


class EncoderStack(nn.Module):
    """Two convolutions to 50 Hz, positions, and the blocks."""

    positional_embedding: Tensor

    def __init__(self, spec: AudioSpec) -> None:
        super().__init__()
        self.spec = spec
        self.conv1 = nn.Conv1d(spec.n_mels, spec.width, 3, padding=1)
        self.conv2 = nn.Conv1d(spec.width, spec.width, 3, stride=2, padding=1)
        self.register_buffer("positional_embedding", sinusoids(spec.table_rows, spec.width))
        self.blocks = nn.ModuleList(
            EncoderBlock(spec.width, spec.heads) for _ in range(spec.layers)
        )
        self.ln_post = nn.LayerNorm(spec.width)

    def forward(self, mel: Tensor) -> Tensor:
        x = F.gelu(self.conv1(mel))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        x = x + self._rows(x.shape[1])
        states = [x]
        for block in self.blocks:
            x = block(x)
            states.append(x)
        return torch.stack(states, dim=2)

    def _rows(self, positions: int) -> Tensor:
        """The table's rows of a window, or the whole table for a block of a recording."""
        table, spec = self.positional_embedding, self.spec
        if spec.positions == spec.table_rows or positions == spec.table_rows:
            return table
        return table[spec.first_row : spec.first_row + positions]


class WhisperEncoder(nn.Module):
    """Audio tokens from log-mel windows."""

    def __init__(self, spec: AudioSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = EncoderStack(spec)

    def states(self, mel: Tensor) -> Tensor:
        """Every hidden state of every position, before the final norm.

        Args:
            mel: [n, n_mels, 2 * positions] log-mel, or [n, n_mels, 2 * table_rows].

        Returns:
            [n, positions, layers + 1, width]: state 0 is the embedded input,
            state j the output of block j.
        """
        states: Tensor = self.encoder(mel)
        return states

    def forward(self, mel: Tensor) -> Tensor:
        """The tokens that drive one video frame a window.

        Args:
            mel: [n, n_mels, 2 * positions], the window of the frame
                (`engine.spec.AudioSpec`).

        Returns:
            [n, tokens, width]: the 10 positions before guard and tail,
            row = (layers + 1) * step + state.
        """
        after = self.spec.guard + self.spec.tail
        return self.states(mel)[:, -AUDIO_STEPS - after : -after or None].flatten(1, 2)


def offline_states(encoder: WhisperEncoder, mel: Tensor) -> Tensor:
    """Every state of a whole recording, as LatentSync reads it.

    The recording is cut into segments as long as the table of positions; the last
    one is padded with zeros of log-mel, not with silence.

    Args:
        mel: [n_mels, frames] log-mel.

    Returns:
        [T, layers + 1, width], T the sum over segments of half their frames.
    """
    length = 2 * encoder.spec.table_rows
    parts = []
    for start in range(0, mel.shape[1], length):
        segment = mel[:, start : start + length]
        padded = F.pad(segment, (0, length - segment.shape[1]))
        parts.append(encoder.states(padded[None])[0, : segment.shape[1] // 2])
    return torch.cat(parts)
