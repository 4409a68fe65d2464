"""One step's losses: what is drawn, what is computed, and what the gradients reach."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.errors import ConfigError, ModelError, StateDictMismatch
from engine.sampler import alphas_cumprod
from engine.spec import ModelSpec
from tests.toy_finetune import (
    FRAMES,
    TOY,
    TOY_MODEL,
    small_losses,
    write_toy_clips,
    write_toy_model,
)
from training.finetune.batches import ClipSource
from training.finetune.clips import SkipReport, read_listing
from training.finetune.configs import FinetuneConfig, LossWeights
from training.finetune.networks import Networks, load_networks, trained_spec
from training.finetune.noise import generator_of, mixed_noise
from training.finetune.objective import Losses, Objective, StepInputs
from training.finetune.validation import Validation
from training.finetune.weights import load_losses

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    write_toy_model(folder / "model")
    write_toy_clips(folder / "data")
    return folder


def _networks(folder: Path, config: FinetuneConfig = TOY) -> Networks:
    losses = small_losses(folder, config.losses, CPU, torch.float32)
    return load_networks(folder / "model", config, losses, CPU, torch.float32)


def _inputs(folder: Path, objective: Objective) -> StepInputs:
    entries = read_listing(folder / "data", 3 * FRAMES, SkipReport(folder / "skipped.tsv"))
    source = ClipSource(entries, TOY_MODEL, FRAMES, 0, SkipReport(folder / "skipped.tsv"))
    return objective.inputs(source.batch(0, 1), generator_of(1))


def test_frames_share_half_of_the_noise_at_alpha_1() -> None:
    noise = mixed_noise((2, 4, 16, 32, 32), 1.0, generator_of(0))
    assert float(noise.std()) == pytest.approx(1.0, abs=0.03)
    shared = float((noise[:, :, 0] * noise[:, :, 9]).mean())
    assert shared == pytest.approx(0.5, abs=0.03)
    alone = mixed_noise((2, 4, 16, 32, 32), 0.0, generator_of(0))
    assert float((alone[:, :, 0] * alone[:, :, 9]).mean()) == pytest.approx(0.0, abs=0.03)


def test_draws_depend_on_all_numbers_and_nothing_else() -> None:
    first = torch.randn(3, generator=generator_of(5, 1, 7))
    torch.randn(9)
    assert torch.equal(first, torch.randn(3, generator=generator_of(5, 1, 7)))
    for other in ((5, 1, 8), (5, 7, 1), (6, 1, 7)):
        assert not torch.equal(first, torch.randn(3, generator=generator_of(*other)))


def test_a_perfect_prediction_gives_the_decoded_truth(folder: Path) -> None:
    networks = _networks(folder)
    objective = Objective(TOY, networks, CPU)
    inputs = dataclasses.replace(_inputs(folder, objective), timesteps=torch.tensor([400]))
    seen: dict[str, Tensor] = {}

    def predict(sample: Tensor, timestep: Tensor, audio: Tensor) -> Tensor:
        seen.update(sample=sample, audio=audio)
        return inputs.noise

    losses = objective.losses(predict, inputs)
    assert float(losses.parts["recon"]) == 0.0
    size = TOY_MODEL.latent_size
    assert seen["sample"].shape == (1, 13, FRAMES, size, size)
    assert seen["audio"].shape == (1, FRAMES, TOY_MODEL.unet.audio_tokens, 16)
    clean = networks.codec.encode(inputs.truth[0])
    alpha = float(alphas_cumprod()[400])
    noisy = alpha**0.5 * clean.transpose(0, 1) + (1 - alpha) ** 0.5 * inputs.noise[0]
    assert torch.allclose(seen["sample"][0, :4], noisy, atol=1e-5)
    masked, reference = seen["sample"][0, 5:9], seen["sample"][0, 9:]
    assert torch.allclose(reference, networks.codec.encode(inputs.reference[0]).transpose(0, 1))
    assert not torch.allclose(masked, clean.transpose(0, 1))
    # LPIPS of the lower half, between the truth and what the codec makes of it.
    decoded = networks.codec.decode(clean)[:, :, 16:]
    assert networks.losses.perceptual is not None
    want = networks.losses.perceptual(decoded, inputs.truth[0][:, :, 16:])
    assert float(losses.parts["perceptual"]) == pytest.approx(float(want), rel=1e-3)


def test_the_total_is_the_weighted_sum(folder: Path) -> None:
    config = dataclasses.replace(TOY, losses=LossWeights(2.0, 0.5, 0.0, 3.0))
    objective = Objective(config, _networks(folder, config), CPU)
    losses = objective.losses(objective.networks.unet, _inputs(folder, objective))
    parts = {name: float(value) for name, value in losses.parts.items()}
    assert set(parts) == {"recon", "perceptual", "temporal"}
    want = 2.0 * parts["recon"] + 0.5 * parts["perceptual"] + 3.0 * parts["temporal"]
    assert float(losses.total.detach()) == pytest.approx(want, rel=1e-5)


def test_the_sync_loss_hears_the_clips_own_sound(folder: Path, tmp_path: Path) -> None:
    write_toy_clips(tmp_path, 2, frames=48)
    config = dataclasses.replace(TOY, frames=16, losses=LossWeights(0, 0, 1, 0))
    networks = _networks(folder, config)
    objective = Objective(config, networks, CPU)
    report = SkipReport(tmp_path / "skipped.tsv")
    entries = read_listing(tmp_path, 48, report)
    spec = dataclasses.replace(TOY_MODEL, window_frames=16)
    batch = ClipSource(entries, spec, 16, 0, report).batch(0, 1)
    inputs = objective.inputs(batch, generator_of(1))
    losses = objective.losses(networks.unet, inputs)
    losses.total.backward()  # type: ignore[no-untyped-call]
    assert float(losses.parts["sync"]) > 0
    assert any(
        float(p.grad.abs().sum()) > 0 for p in networks.trained.values() if p.grad is not None
    )
    silent = dataclasses.replace(inputs, sync_mel=torch.full_like(inputs.sync_mel, -4.0))
    other = objective.losses(networks.unet, silent).parts["sync"]
    assert float(other) != float(losses.parts["sync"])

    figures = Validation(entries[1:], networks, CPU, 16, report).run(tmp_path, 1, nullcontext())
    assert 0 <= figures["sync_cosine"] <= 1 and figures["error_levels"] > 0


def test_recomputing_changes_no_gradient_and_only_trained_parts_have_one(folder: Path) -> None:
    def backward(recompute: bool) -> tuple[Losses, dict[str, Tensor]]:
        networks = _networks(folder)
        objective = Objective(TOY, networks, CPU, recompute=recompute)
        losses = objective.losses(networks.unet, _inputs(folder, objective))
        losses.total.backward()  # type: ignore[no-untyped-call]
        grads = {n: p.grad for n, p in networks.unet.named_parameters() if p.grad is not None}
        assert set(grads) == set(networks.trained)
        assert all(p.grad is None for p in networks.codec.parameters())
        return losses, grads

    losses, grads = backward(True)
    plain, wanted = backward(False)
    assert torch.equal(losses.total, plain.total)
    assert all(torch.equal(grads[name], wanted[name]) for name in wanted)
    assert all(".motion_modules." in name or ".attn2." in name for name in grads)


def test_steps_on_one_batch_lower_its_loss(folder: Path) -> None:
    networks = _networks(folder)
    objective = Objective(TOY, networks, CPU)
    inputs = dataclasses.replace(_inputs(folder, objective), timesteps=torch.tensor([300]))
    optimizer = torch.optim.AdamW(networks.trained.values(), lr=1e-2)
    totals = []
    for _ in range(8):
        losses = objective.losses(networks.unet, inputs)
        totals.append(float(losses.total.detach()))
        optimizer.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert totals[-1] < 0.9 * totals[0]


def test_the_temporal_modules_of_the_encoder_are_left_away_and_nothing_else(folder: Path) -> None:
    networks = _networks(folder)
    assert networks.spec.unet.motion_decoder_only
    assert not [key for key in networks.unet.state_dict() if key.startswith("down_blocks.1.motion")]
    bare = folder / "bare"
    bare.mkdir(exist_ok=True)
    for path in (folder / "model").iterdir():
        (bare / path.name).write_bytes(path.read_bytes())
    state = {k: v for k, v in networks.unet.state_dict().items() if "up_blocks.0.motion" not in k}
    torch.save(state, bare / "unet.pt")
    (bare / "unet.safetensors").unlink()
    with pytest.raises(ModelError):
        load_networks(bare, TOY, networks.losses, CPU, torch.float32)


def test_a_model_that_does_not_fit_the_configuration_is_refused(folder: Path) -> None:
    spec = ModelSpec.read(folder / "model")
    with pytest.raises(ConfigError, match="512 px"):
        trained_spec(spec, dataclasses.replace(TOY, resolution=512))
    halved = dataclasses.replace(
        spec, unet=dataclasses.replace(spec.unet, motion_decoder_only=True)
    )
    with pytest.raises(ConfigError, match="stage2_efficient"):
        trained_spec(halved, dataclasses.replace(TOY, motion_decoder_only=False))
    assert trained_spec(halved, TOY).name == "latentsync-1.5-stage2_efficient"


def test_missing_loss_files_are_all_named_with_where_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIPWIRE_MODELS_DIR", str(tmp_path / "models"))
    with pytest.raises(ModelError) as caught:
        load_losses(tmp_path, LossWeights(), CPU, torch.float32)
    message = str(caught.value)
    for name in ("vit_g_hybrid_pt_1200e_ssv2_ft.pth", "vgg16-397923af.pth"):
        assert f"hf download ByteDance/LatentSync-1.5 auxiliary/{name}" in message
    assert "stable_syncnet.pt for the loss 'sync': lipwire fetch latentsync-1.5-syncnet" in message
    assert "lpips==0.1.4" in message and "--without sync temporal perceptual" in message
    off = TOY.without("perceptual", "temporal").losses
    assert load_losses(tmp_path, off, CPU, torch.float32).perceptual is None


def test_a_sync_network_that_was_fetched_is_found_and_read_strictly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIPWIRE_MODELS_DIR", str(tmp_path))
    path = tmp_path / "latentsync-1.6-syncnet" / "stable_syncnet.pt"
    path.parent.mkdir()
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, path)
    with pytest.raises(StateDictMismatch, match=r"latentsync-1\.6-syncnet"):
        load_losses(tmp_path / "none", LossWeights(1, 0, 1, 0), CPU, torch.float32)
