"""The predictor of experts: against plain loops and closed forms; what it learns from, checked numerically; its
file."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from golden import npz
from golden.moe.distill import Lesson, TrainingSpec, backward, loss, sparsemax_backward, train
from golden.moe.predictor import Predictor, PredictorSpec, lstm, pieces, released_sparsemax, sigmoid, sparsemax
from golden.moe.router import softmax
from golden.spec import SpecError

Array = Any

SMALL = PredictorSpec(inputs=5, hidden=4, layers=3, experts=6)
rows = arrays(np.float64, st.integers(1, 9), elements=st.floats(-4, 4, width=32))


@pytest.mark.parametrize(
    ("z", "right", "released"),
    [
        ([3, 1.5, 0], [1, 0, 0], [0.8, 0.2, 0]),
        ([1, 0.3, -0.5, -2], [0.85, 0.15, 0, 0], [0.675, 0.325, 0, 0]),
        ([0, 0], [0.5, 0.5], [0.5, 0.5]),
        ([7], [1], [1]),
    ],
)
def test_sparsemax_and_what_was_released_of_it(z: list[float], right: list[float], released: list[float]) -> None:
    np.testing.assert_allclose(sparsemax(np.array(z)), right, atol=1e-12)
    np.testing.assert_allclose(released_sparsemax(np.array(z)), released, atol=1e-12)
    both = np.array([z, z[::-1]])
    np.testing.assert_allclose(sparsemax(both), [right, right[::-1]], atol=1e-12)


@given(rows, st.floats(-100, 100))
def test_sparsemax_is_the_nearest_point_of_the_simplex(z: Array, shift: float) -> None:
    p = sparsemax(z)
    assert (p >= 0).all() and p.sum() == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(sparsemax(z + shift), p, atol=1e-9)
    # p is nearest if no corner is on its other side: (z - p)(corner - p) <= 0
    assert ((z - p)[None] @ (np.eye(len(z)) - p).T <= 1e-9).all()


@settings(max_examples=30)
@given(rows, st.integers(0, 100))
def test_the_gradient_of_sparsemax(z: Array, seed: int) -> None:
    z = z + np.random.default_rng(seed).uniform(0, 1e-3, z.shape)  # not on an edge
    g = np.random.default_rng([seed, 1]).standard_normal(z.shape)
    step = 1e-7 * np.eye(len(z))
    sides = sparsemax(z + step), sparsemax(z - step)
    same = ((sides[0] > 0) == (sides[1] > 0)).all(axis=1)
    numeric = (sides[0] - sides[1]) @ g / 2e-7
    np.testing.assert_allclose(sparsemax_backward(sparsemax(z), g)[same], numeric[same], atol=1e-5)


def naive_lstm(u: Array, w_ih: Array, b_ih: Array, w_hh: Array, b_hh: Array) -> list[list[float]]:
    """One number at a time, gates i, f, g, o."""
    size = len(w_hh[0])
    h, c, out = [0.0] * size, [0.0] * size, []
    for token in u.tolist():
        sums = [
            sum(w * x for w, x in zip(w_ih[r], token, strict=True))
            + b_ih[r]
            + sum(w * x for w, x in zip(w_hh[r], h, strict=True))
            + b_hh[r]
            for r in range(4 * size)
        ]
        gate = [1 / (1 + math.exp(-a)) for a in sums]
        c = [gate[size + j] * c[j] + gate[j] * math.tanh(sums[2 * size + j]) for j in range(size)]
        h = [gate[3 * size + j] * math.tanh(c[j]) for j in range(size)]
        out.append(h)
    return out


def lstm_parameters(inputs: int, hidden: int, seed: int = 1) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in ((4 * hidden, inputs), (4 * hidden,), (4 * hidden, hidden))] + [
        rng.standard_normal(4 * hidden)
    ]


def test_the_lstm_equals_a_loop_over_numbers() -> None:
    parameters = lstm_parameters(3, 4)
    u = np.random.default_rng(2).standard_normal((2, 7, 3))
    h = lstm(u, *parameters).h
    for sequence, got in zip(u, h, strict=True):
        np.testing.assert_allclose(got, naive_lstm(sequence, *(p.tolist() for p in parameters)), rtol=1e-12)


def test_the_lstm_equals_another_library() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed; a plain loop stands in")
    parameters = lstm_parameters(3, 4)
    module = torch.nn.LSTM(3, 4, batch_first=True, dtype=torch.float64)
    names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    module.load_state_dict({name: torch.tensor(p) for name, p in zip(names, parameters, strict=True)})
    u = np.random.default_rng(2).standard_normal((2, 7, 3))
    np.testing.assert_allclose(lstm(u, *parameters).h, module(torch.tensor(u))[0].detach().numpy(), rtol=1e-10)


def test_closed_forms_of_the_lstm() -> None:
    """No weights: gates are constants, and the cell a geometric sum. A forgetful one has no memory."""
    i, f, g, o = biases = np.array([0.3, -0.2, 0.9, 1.1])
    h = lstm(np.ones((5, 2)), np.zeros((4, 2)), biases, np.zeros((4, 1)), np.zeros(4)).h[:, 0]
    keep = sigmoid(f)
    c = sigmoid(i) * np.tanh(g) * (1 - keep ** np.arange(1, 6)) / (1 - keep)
    np.testing.assert_allclose(h, sigmoid(o) * np.tanh(c), rtol=1e-12)
    zero = lstm(np.ones((3, 2)), np.zeros((4, 2)), np.zeros(4), np.zeros((4, 1)), np.zeros(4)).h
    assert (zero == 0).all()
    u = np.array([[2.0], [-1.0], [2.0]])
    w, b = np.array([[0.0], [0.0], [1.0], [0.0]]), np.array([50.0, -50, 0, 50])  # input open, forgets, output open
    np.testing.assert_allclose(lstm(u, w, b, np.zeros((4, 1)), np.zeros(4)).h, np.tanh(np.tanh(u)), rtol=1e-12)


def naive_logits(predictor: Predictor, x: Array) -> Array:
    """The steps again, token by token, for one sequence."""
    p = predictor.parameters
    hidden = [np.maximum(p["fc.weight"] @ v + p["fc.bias"], 0) for v in x]
    out = hidden
    for n in range(2):
        of = [p[f"lstm{n}.{name}"].tolist() for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")]
        out = [np.array(h) for h in naive_lstm(np.array(out), *of)]
    found = []
    for token, mine in enumerate(out):
        attention = sparsemax(np.array([mine @ other for other in out]))
        y = sum(a * other for a, other in zip(attention, out, strict=True))
        y = y + p["residual.weight"] @ hidden[token] + p["residual.bias"]
        found.append([w @ y + b for w, b in zip(p["heads.weight"], p["heads.bias"], strict=True)])
    return np.array(found)


def test_the_predictor_is_its_steps() -> None:
    predictor = Predictor.random(SMALL, 3, np.float64)
    x = np.random.default_rng(4).standard_normal((2, 6, 5)) * 3
    logits = predictor.run(x).logits
    assert logits.shape == (2, 6, 3, 6)
    for sequence, got in zip(x, logits, strict=True):
        np.testing.assert_allclose(got, naive_logits(predictor, sequence), rtol=1e-9, atol=1e-12)
    table = predictor.table(x, 4)
    alpha = softmax(logits)
    for place in np.ndindex(2, 6, 3):
        ranked = sorted(range(6), key=lambda e, place=place: (-alpha[place][e], e))[:4]  # type: ignore[misc]
        assert table.experts[place].tolist() == ranked
        assert table.alpha[place].tolist() == alpha[place][ranked].tolist()


def test_ties_go_to_the_lower_expert() -> None:
    blank = Predictor(SMALL, {name: np.zeros(shape) for name, shape in SMALL.shapes.items()})
    table = blank.table(np.ones((4, 5)), 3)
    assert (table.experts == [0, 1, 2]).all() and (table.alpha == 1 / 6).all()


def test_tokens_see_later_ones_and_no_other_sequence() -> None:
    predictor = Predictor.random(SMALL, 3, np.float64)
    predictor.parameters["lstm1.bias_ih"][:] = 5.0  # alike enough to attend to one another
    x = np.random.default_rng(4).standard_normal((2, 6, 5)) * 3
    other = x.copy()
    other[0, -1] += 1
    changed = (predictor.run(x).logits != predictor.run(other).logits).any(axis=(2, 3))
    assert changed[0, 0] and not changed[1].any()


def test_the_published_size() -> None:
    spec = PredictorSpec(inputs=768, hidden=256, layers=6, experts=128)
    assert spec.parameters_in_all == pytest.approx(1.51e6, rel=0.005)
    assert PredictorSpec.from_toml(spec.to_toml()) == spec


def lesson(tokens: int, seed: int = 5, spec: PredictorSpec = SMALL, active: int = 2) -> Lesson:
    rng = np.random.default_rng(seed)
    scores = rng.random((tokens, spec.layers, spec.experts))
    chosen = np.argsort(-scores, axis=-1)[..., :active]
    return Lesson(rng.standard_normal((tokens, spec.inputs)), scores, chosen)


@pytest.mark.parametrize("truncate", [1, 3, 30])
def test_the_loss_is_its_formula(truncate: int) -> None:
    some = lesson(4)
    z = np.random.default_rng(1).standard_normal((4, 3, 6))
    total = 0.0
    for place in np.ndindex(4, 3):
        p = softmax(z[place])
        total -= 0.005 * sum(math.log(p[e]) for e in some.chosen[place]) / 2
        top = sorted(range(6), key=lambda e, place=place: -some.scores[place][e])[:truncate]  # type: ignore[misc]
        q, s = softmax(some.scores[place][top]), softmax(z[place][top])
        total += sum(a * math.log(a / b) for a, b in zip(q, s, strict=True))
    value, gradient = loss(z, some, 0.005, truncate)
    assert value == pytest.approx(total / 12, rel=1e-12)
    rng = np.random.default_rng(2)
    for _ in range(10):
        step = rng.standard_normal(z.shape)
        slope = (
            loss(z + 1e-6 * step, some, 0.005, truncate)[0] - loss(z - 1e-6 * step, some, 0.005, truncate)[0]
        ) / 2e-6
        assert slope == pytest.approx((gradient * step).sum(), abs=1e-8)


@pytest.mark.parametrize("name", list(SMALL.shapes))
def test_gradients_are_the_numerical_ones(name: str) -> None:
    predictor = Predictor.random(SMALL, 3, np.float64)
    predictor.parameters = {n: 3 * a for n, a in predictor.parameters.items()}
    places = np.arange(12).reshape(2, 6)
    some = lesson(12)[places]

    def value() -> float:
        return loss(predictor.run(some.x).logits, some, 0.3, 4)[0]

    inside = predictor.run(some.x)
    assert ((inside.attention > 0).sum(axis=-1) > 1).any()  # some attend to others
    gradient = backward(predictor, inside, loss(inside.logits, some, 0.3, 4)[1])[name]
    a = predictor.parameters[name]
    for at in np.random.default_rng(1).permutation(a.size)[:12]:
        place = np.unravel_index(at, a.shape)
        kept, a[place] = a[place], a[place] + 1e-6
        above = value()
        a[place] = kept - 1e-6
        slope = (above - value()) / 2e-6
        a[place] = kept
        assert gradient[place] == pytest.approx(slope, rel=1e-4, abs=1e-9)


def test_what_follows_from_the_token_is_learned() -> None:
    """Each of eight tokens has its experts, but for those that the token before decides."""
    spec = PredictorSpec(inputs=8, hidden=16, layers=2, experts=5)
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, 8, 600)
    own, before = tokens % 5, np.roll(tokens, 1) % 5
    scores = np.stack([np.eye(5)[own] * 4, np.eye(5)[before] * 4], axis=1)
    some = Lesson(np.eye(8)[tokens].astype(np.float32), scores, scores.argmax(axis=-1)[..., None])
    how = TrainingSpec(epochs=40, sequence=20, batch=4, rate=0.02)
    said: list[tuple[int, float, float]] = []
    found = train(spec, some, how, lambda *line: said.append(line))
    fresh = np.random.default_rng(2).integers(0, 8, 40)
    table = found.table(np.eye(8)[fresh].astype(np.float32), 1).experts[..., 0]
    assert (table[:, 0] == fresh % 5).mean() > 0.95 and (table[1:, 1] == fresh[:-1] % 5).mean() > 0.8
    assert [epoch for epoch, _, _ in said] == list(range(1, 41)) and said[-1][1] < said[0][1] / 2


def test_training_is_repeatable() -> None:
    how = TrainingSpec(epochs=2, sequence=10, batch=4)
    first, again = (train(SMALL, lesson(100), how).parameters for _ in range(2))
    assert all(np.array_equal(a, again[name]) for name, a in first.items())


def test_the_best_epoch_is_kept() -> None:
    some, said = lesson(60), list[float]()
    how = TrainingSpec(epochs=30, sequence=5, rate=0.05, held=4)
    found = train(SMALL, some, how, lambda _epoch, _loss, held: said.append(held))
    places = np.arange(45, 60).reshape(3, 5)
    held = some[places]
    assert loss(found.run(held.x).logits, held, how.weight, how.truncate)[0] == pytest.approx(min(said))
    assert min(said) < said[-1]  # noise: it learns by heart


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sequence": 70}, "sequence must be at most the 7 tokens of a part of the text, not 70"),
        ({"sequence": 70, "held": 0}, "sequence must be at most the 60 tokens of a part of the text, not 70"),
        ({"rate": 0.0}, "rate must be above 0 and at most 1, not 0.0"),
        ({"rate": math.nan}, "rate must be above 0 and at most 1, not nan"),
        ({"weight": -1.0}, "weight must be 0 or more, not -1.0"),
        ({"weight": math.inf}, "weight must be 0 or more, not inf"),
        ({"epochs": 0}, "epochs must be an integer between 1 and 100000, not 0"),
    ],
)
def test_bad_training_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as caught:
        train(SMALL, lesson(60), TrainingSpec(**change))
    assert str(caught.value) == sentence


def test_what_cannot_be_learned_is_one_sentence() -> None:
    with pytest.raises(SpecError, match=r"^experts must be 6, as in the trace, not 7$"):
        train(PredictorSpec(inputs=5, hidden=4, layers=3, experts=7), lesson(70), TrainingSpec(sequence=5))
    released = PredictorSpec(**SMALL.values() | {"attention": "released"})
    with pytest.raises(SpecError, match=r"^attention must be sparsemax for training, not 'released'$"):
        train(released, lesson(70), TrainingSpec(sequence=5))
    with pytest.raises(SpecError, match=r"^rate must be a number, not 'fast'$"):
        TrainingSpec.from_values({"rate": "fast"})
    with pytest.raises(SpecError, match=r"^sequence must be an integer of at least 1, not 0$"):
        pieces(3, 0)


def test_a_released_predictor_is_replayed_as_it_was() -> None:
    released = Predictor.random(PredictorSpec(**SMALL.values() | {"attention": "released"}), 3, np.float64)
    inside = released.run(np.random.default_rng(4).standard_normal((6, 5)))
    out = inside.lstm[-1].h
    np.testing.assert_array_equal(inside.attention, released_sparsemax(out @ out.T))
    assert (inside.attention != sparsemax(out @ out.T)).any()


def test_the_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "new" / "predictor.npz"
    saved = Predictor.random(SMALL, 3)
    saved.save(path)
    found = Predictor.load(path)
    assert found.spec == SMALL and list(path.parent.iterdir()) == [path]
    assert all(np.array_equal(a, found.parameters[name]) for name, a in saved.parameters.items())


def spoiled(path: Path, **arrays_: Any) -> Path:
    whole: dict[str, Any] = {"spec": np.array(SMALL.to_toml()), **Predictor.random(SMALL, 3).parameters}
    npz.save(path, {name: a for name, a in (whole | arrays_).items() if a is not None})
    return path


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("fc.bias", None, "predictor {} must have an array fc.bias"),
        ("spec", np.array("hidden = 9999999"), "hidden must be an integer between 1 and 4096, not 9999999"),
        ("spec", np.array("mischief = 1"), "'mischief' is not a parameter; it must be one of inputs, hidden, layers, "
         "experts, attention"),
        ("fc.bias", np.zeros(5), "fc.bias of predictor {} must be finite floating-point numbers of shape (4,), not "
         "float64 of shape (5,)"),
        ("fc.bias", np.zeros(4, np.int64), "fc.bias of predictor {} must be finite floating-point numbers of shape "
         "(4,), not int64 of shape (4,)"),
        ("fc.bias", np.full(4, np.nan), "fc.bias of predictor {} must be finite floating-point numbers of shape (4,), "
         "not others"),
        ("fc.bias", np.array([{}] * 4), "predictor {} cannot be read: fc.bias must be an array of "
         "numbers or text"),
    ],
)  # fmt: skip
def test_a_hostile_file_is_one_sentence(tmp_path: Path, name: str, value: Any, sentence: str) -> None:
    path = spoiled(tmp_path / "p.npz", **{name: value})
    with pytest.raises(SpecError) as caught:
        Predictor.load(path)
    assert str(caught.value) == sentence.format(path)


def test_what_is_no_such_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    with pytest.raises(SpecError, match=r"cannot be read: No such file or directory$"):
        Predictor.load(path)
    path.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(SpecError, match=r"cannot be read: File is not a zip file$"):
        Predictor.load(path)
    np.savez_compressed(path, spec=np.zeros(1 << 20))
    with pytest.raises(SpecError, match=r"must hold its arrays uncompressed$"):
        Predictor.load(path)
    whole = spoiled(tmp_path / "whole.npz").read_bytes()
    for end in range(100, len(whole), 997):
        path.write_bytes(whole[:end])
        with pytest.raises(SpecError, match=r"^predictor .* cannot be read: "):
            Predictor.load(path)
    with pytest.raises(SpecError, match=r"^output .* cannot be written: "):
        Predictor.random(SMALL, 3).save(path / "below")


def test_bytes_that_change_are_refused_or_read(tmp_path: Path) -> None:
    """Whatever becomes of the file: a sentence or a predictor, no other exception."""
    path, rng = tmp_path / "p.npz", np.random.default_rng(1)
    whole = spoiled(path).read_bytes()
    refused = 0
    for _ in range(300):
        bad = bytearray(whole)
        for at in rng.integers(0, len(bad), 3):
            bad[at] = rng.integers(0, 256)
        path.write_bytes(bad)
        try:
            Predictor.load(path)
        except SpecError:
            refused += 1
    assert refused > 100
