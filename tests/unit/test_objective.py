"""Noise, targets and loss weights against values calculated by hand."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.diffusion.objective import (
    Objective,
    debiased_weight,
    min_snr_weight,
    signal_to_noise,
    small_image_gamma,
    zero_terminal,
)
from lib_pivotal.core.errors import ConfigError

# An image of 2 mixed at 0.8 with noise of -1 mixed at 0.6; then half and half; then mostly noise (0.6 and 0.8).
ALPHAS = torch.tensor([0.64, 0.5, 0.36])
SNR = torch.tensor([9.0, 1.0, 0.25, 0.0])


def near(*numbers: float):
    return pytest.approx(numbers, rel=1e-5)


def objective(**options) -> Objective:
    values = {"is_v_prediction": False, "min_snr_gamma": 5.0, "device": torch.device("cpu"), **options}
    return Objective(values.pop("alphas", ALPHAS), **values)


def filled(*numbers: float) -> torch.Tensor:
    """One item of 4 × 2 × 2 equal values per number."""
    return torch.tensor(numbers).view(-1, 1, 1, 1).expand(-1, 4, 2, 2).clone()


def test_signal_to_noise():
    assert signal_to_noise(torch.tensor([0.9, 0.5, 0.2])).tolist() == near(9.0, 1.0, 0.25)


def test_min_snr():
    # min(SNR, 5) / SNR for noise, min(SNR, 5) / (SNR + 1) for velocity.
    assert min_snr_weight(SNR, 5.0, is_v_prediction=False).tolist() == near(5 / 9, 1.0, 1.0, 1.0)
    assert min_snr_weight(SNR, 5.0, is_v_prediction=True).tolist() == near(0.5, 0.5, 0.2, 0.0)
    assert min_snr_weight(SNR, 0.5, is_v_prediction=False).tolist() == near(1 / 18, 0.5, 1.0, 1.0)
    with pytest.raises(ConfigError):
        min_snr_weight(SNR, 0.0, is_v_prediction=False)


def test_debiased():
    # 1 / √SNR for noise, 1 / (SNR + 1) for velocity; SNR is held within 1e-3 … 1000 for noise.
    assert debiased_weight(SNR[:3], is_v_prediction=False).tolist() == near(1 / 3, 1.0, 2.0)
    assert debiased_weight(SNR, is_v_prediction=True).tolist() == near(0.1, 0.5, 0.8, 1.0)
    assert debiased_weight(torch.tensor([1e6, 0.0]), is_v_prediction=False).tolist() == near(1000**-0.5, 1000**0.5)


def test_debiased_gives_the_noisiest_levels_of_sd_fifteen_times_the_weight_but_not_for_velocity():
    snr = signal_to_noise(torch.cumprod(1.0 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0))
    noise, velocity = (debiased_weight(snr, is_v_prediction=is_v) for is_v in (False, True))
    assert float(noise[-1]) == float(noise.max()) == pytest.approx(14.6, abs=0.1)
    assert float(velocity[-1]) == float(velocity.max()) == pytest.approx(0.995, abs=0.001)
    assert float(velocity.min()) == pytest.approx(1 / 1001, rel=1e-3)


def test_zero_terminal():
    # Roots 0.9, 0.5, 0.2 become 0.9, 0.3 · 9/7, 0.
    moved = zero_terminal(torch.tensor([0.81, 0.25, 0.04]))
    assert moved.dtype == torch.float32
    assert moved[:2].tolist() == near(0.81, (0.3 * 9 / 7) ** 2)
    assert 0 < float(moved[2]) < 1e-7
    # Nothing of the image is left: what the model sees at the last timestep is the noise.
    noisy = objective(alphas=moved).noisy(filled(2.0), filled(-1.0), torch.tensor([2]))
    assert noisy.flatten().tolist() == pytest.approx([-1.0] * 16, abs=1e-3)


def test_noisy_latents_mix_by_the_roots():
    noisy = objective().noisy(filled(2.0, 2.0, 2.0), filled(-1.0, 1.0, -1.0), torch.tensor([0, 1, 2]))
    assert noisy[:, 0, 0, 0].tolist() == near(1.6 - 0.6, 3 * 0.5**0.5, 1.2 - 0.8)


def test_the_target_of_a_noise_predictor_is_the_noise():
    loss = objective(weighting="none")
    times = torch.tensor([0, 2])
    wrong = loss.losses(filled(0.0, 2.0), filled(2.0, 2.0), filled(-1.0, -1.0), times)
    assert wrong.tolist() == near(1.0, 9.0)
    assert loss.losses(filled(-1.0, -1.0), filled(2.0, 2.0), filled(-1.0, -1.0), times).tolist() == [0.0, 0.0]


def test_the_target_of_a_velocity_predictor_is_the_velocity():
    # √ᾱ · noise − √(1 − ᾱ) · image = 0.8 · (−1) − 0.6 · 2 = −2, then 0.6 · (−1) − 0.8 · 2 = −2.2.
    loss = objective(weighting="none", is_v_prediction=True)
    times = torch.tensor([0, 2])
    assert loss.losses(filled(0.0, 0.0), filled(2.0, 2.0), filled(-1.0, -1.0), times).tolist() == near(4.0, 4.84)
    right = loss.losses(filled(-2.0, -2.2), filled(2.0, 2.0), filled(-1.0, -1.0), times)
    assert right.tolist() == pytest.approx([0.0, 0.0], abs=1e-10)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # SNR is 0.64 / 0.36 = 16/9, then 1, then 9/16; the squared error is 1 everywhere.
        ({"weighting": "none"}, (1.0, 1.0, 1.0)),
        ({"min_snr_gamma": 0.0}, (1.0, 1.0, 1.0)),
        ({"min_snr_gamma": 5.0}, (1.0, 1.0, 1.0)),
        ({"min_snr_gamma": 1.0}, (9 / 16, 1.0, 1.0)),
        ({"weighting": "debiased"}, (3 / 4, 1.0, 4 / 3)),
        # The velocities are −0.6, −√½ and −0.8 with an image of 1 and no noise: squares 0.36, 0.5 and 0.64.
        ({"is_v_prediction": True, "min_snr_gamma": 1.0}, (0.36 * 9 / 25, 0.25, 0.64 * 9 / 25)),
        ({"is_v_prediction": True, "weighting": "debiased"}, (0.36 * 9 / 25, 0.25, 0.64 * 16 / 25)),
    ],
)
def test_weights_enter_the_loss_of_their_timestep(options, expected):
    is_v = options.get("is_v_prediction", False)
    image, noise = (1.0, 0.0) if is_v else (0.0, 1.0)
    loss = objective(**options)
    found = loss.losses(filled(0, 0, 0), filled(*[image] * 3), filled(*[noise] * 3), torch.tensor([0, 1, 2]))
    assert found.tolist() == near(*expected)


def test_an_items_loss_is_the_mean_of_its_own_values():
    prediction = torch.zeros(2, 4, 2, 2)
    prediction[1, 0, 0, 0] = 4.0
    found = objective(weighting="none").losses(prediction, filled(5.0, 5.0), filled(0.0, 0.0), torch.tensor([1, 1]))
    assert found.tolist() == near(0.0, 1.0)


def test_a_mask_weighs_cells_by_proportion_and_all_ones_change_nothing():
    target = objective(min_snr_gamma=0.0)
    latents, noise, times = filled(0.0, 0.0), filled(0.0, 0.0), torch.tensor([1, 1])
    prediction = filled(0.0, 0.0)
    prediction[:, :, 0] = 2.0  # the upper half is wrong
    mask = torch.ones(2, 1, 2, 2)
    assert target.losses(prediction, latents, noise, times).tolist() == near(2.0, 2.0)
    assert target.losses(prediction, latents, noise, times, mask).tolist() == near(2.0, 2.0)
    mask[0, :, 0] = 0.0
    mask[1, :, 1] = 0.0
    assert target.losses(prediction, latents, noise, times, 3 * mask).tolist() == near(0.0, 4.0)


def test_huber_counts_small_errors_squared_and_large_ones_linearly():
    numbers = {}
    for c in (0.0, 0.5):
        losses = objective(weighting="none", huber_c=c).losses(
            filled(0.01, 10.0, 20.0), filled(0, 0, 0), filled(0, 0, 0), torch.zeros(3, dtype=torch.long)
        )
        numbers[c] = losses.tolist()
    assert numbers[0.0] == near(1e-4, 100.0, 400.0)
    assert numbers[0.5][0] == pytest.approx(1e-4, rel=1e-3)
    # 2c(sqrt(d^2 + c^2) - c)
    assert numbers[0.5][1:] == near((100.25**0.5) - 0.5, (400.25**0.5) - 0.5)


def test_debiased_has_a_limit_at_the_end_of_a_schedule_with_zero_terminal_snr():
    weights = debiased_weight(torch.tensor([0.0, 4.9e-8, 1e-3]), is_v_prediction=False)
    assert weights.tolist() == near(1000**0.5, 1000**0.5, 1000**0.5)


@pytest.mark.parametrize(("resolution", "expected"), [(1024, 5.0), (512, 5.0), (256, 5.0 / 2 ** (4 / 3)), (64, 0.3125)])
def test_the_cap_is_lower_on_models_of_small_images_and_otherwise_as_set(resolution, expected):
    assert small_image_gamma(5.0, resolution) == pytest.approx(expected, rel=1e-12)
    assert small_image_gamma(0.0, resolution) == 0.0
    if resolution >= 512:
        assert small_image_gamma(5.0, resolution) == 5.0
