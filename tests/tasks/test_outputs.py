"""Reading logits: equal to transformers' own loss and to sums by hand, with and without padding."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from small_trials import DATA, FP32, small
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from bench.tasks.encoding.rows import Rows
from bench.tasks.outputs import Continuation, Head, Letters
from bench.train import evaluate
from bench.train.batches import Batch, collate
from bench.train.evaluate import forward, loss_of, predict, weigh

VOCABULARY = 50
LENGTHS, ANSWERS = [9, 5, 7, 9], [2, 1, 4, 3]
CPU = torch.device("cpu")


@dataclass
class FakeBatch:
    input_ids: Tensor
    labels: Tensor
    answer: Tensor | None = None
    options: Tensor | None = None


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=VOCABULARY, intermediate_size=32, **sizes)
    return LlamaForCausalLM(config).eval()


def rows(answers: list[int] | None = ANSWERS, **more: object) -> Rows:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor(LENGTHS)
    ids = torch.randint(1, VOCABULARY, (int(lengths.sum()),), generator=generator)
    answer = None if answers is None else torch.tensor(answers)
    starts = lengths.cumsum(0) - lengths
    return Rows(ids, starts, lengths, torch.tensor([1, 0, 2, 1]), 0, pad_left=True, answer=answer, **more)  # type: ignore[arg-type]


def batch(encoded: Rows) -> Batch:
    return collate(encoded, torch.arange(len(encoded)))


def by_transformers(model: LlamaForCausalLM, encoded: Rows, number: int) -> tuple[float, int]:
    """Return the summed loss of a row's answer and its number of tokens, by the model's own labels, unpadded."""
    start, length, answer = (int(column[number]) for column in (encoded.starts, encoded.lengths, encoded.answer))  # type: ignore[index]
    ids = encoded.ids[start : start + length][None]
    labels = ids.clone()
    labels[:, :-answer] = -100
    return float(model(input_ids=ids, labels=labels).loss.detach()) * answer, answer


def test_the_loss_covers_only_the_answer_tokens(llama: LlamaForCausalLM) -> None:
    encoded = rows(read=Continuation())
    collated = batch(encoded)
    assert collated.keep == max(ANSWERS) + 1
    logits = forward(llama, collated)
    assert logits.shape == (4, max(ANSWERS) + 1, VOCABULARY)  # only the positions read
    sums, tokens = zip(*(by_transformers(llama, encoded, number) for number in range(4)), strict=True)
    assert float(Continuation().loss(logits, collated).detach()) == pytest.approx(sum(sums) / sum(tokens), abs=1e-6)


def test_the_loss_can_cover_the_whole_prompt(llama: LlamaForCausalLM) -> None:
    encoded = rows([length - 1 for length in LENGTHS], read=Continuation())
    collated = batch(encoded)
    sums, tokens = zip(*(by_transformers(llama, encoded, number) for number in range(4)), strict=True)
    assert tokens == (8, 4, 6, 8)
    assert float(Continuation().loss(forward(llama, collated), collated).detach()) == pytest.approx(
        sum(sums) / sum(tokens), abs=1e-6
    )


def test_an_options_score_is_its_mean_log_likelihood(llama: LlamaForCausalLM) -> None:
    encoded = rows(read=Continuation())
    collated = batch(encoded)
    expected = [-total / tokens for total, tokens in (by_transformers(llama, encoded, number) for number in range(4))]
    assert Continuation().answers(forward(llama, collated), collated).tolist() == pytest.approx(expected, abs=1e-5)


def test_letters_are_compared_with_each_other_and_trained_over_the_vocabulary(llama: LlamaForCausalLM) -> None:
    read = Letters((7, 3, 9))
    collated = batch(rows(None, read=read))
    logits = forward(llama, collated)
    assert logits.shape == (4, 1, VOCABULARY)
    last = logits[:, 0]
    assert read.answers(logits, collated).tolist() == last[:, [7, 3, 9]].argmax(-1).tolist()
    wanted = torch.tensor([3, 7, 9, 3])  # of the labels 1, 0, 2, 1
    assert float(read.loss(logits, collated).detach()) == pytest.approx(
        float(-last.log_softmax(-1).gather(1, wanted[:, None]).mean().detach())
    )


def test_the_answer_is_the_likeliest_option(llama: LlamaForCausalLM) -> None:
    """Two questions, with three options and with one. The rows go through the model in another order."""
    group, labels = torch.tensor([0, 0, 0, 1]), torch.tensor([2, 2, 2, 0])
    encoded = rows(read=Continuation(), group=group)
    encoded = Rows(**{**vars(encoded), "labels": labels})
    each = [-total / tokens for total, tokens in (by_transformers(llama, encoded, number) for number in range(4))]
    expected = max(range(3), key=lambda option: each[option])
    assert predict(llama, encoded, 32, FP32).tolist() == [expected, 0]
    assert encoded.truth.tolist() == [2, 0]


def test_packs_reduce_the_options_of_every_trial() -> None:
    encoded = rows(group=torch.tensor([0, 0, 1, 1]))
    row_scores = torch.tensor([[0.1, 0.2, 0.9, 0.3], [0.5, 0.2, 0.1, 0.3]])
    assert encoded.answers(row_scores).tolist() == [[1, 0], [0, 1]]
    assert rows().answers(row_scores) is row_scores


def test_an_option_that_a_question_does_not_have_is_never_chosen() -> None:
    questions = FakeBatch(torch.zeros(2, 3), torch.tensor([0, 1]), options=torch.tensor([2, 3]))
    logits = torch.tensor([[0.0, 1.0, 9.0], [0.0, 1.0, 9.0]])
    assert Head().answers(logits, questions).tolist() == [1, 2]
    assert Letters((0, 1, 2)).answers(logits[:, None], questions).tolist() == [1, 2]


def test_a_head_predicts_labels_or_numbers() -> None:
    logits = torch.tensor([[0.0, 2.0], [1.0, -1.0]])
    classes = FakeBatch(torch.zeros(2, 3), torch.tensor([1, 1]))
    assert Head().answers(logits, classes).tolist() == [1, 0]
    expected = torch.nn.functional.cross_entropy(logits, classes.labels)
    assert float(Head().loss(logits, classes)) == float(expected)
    numbers = FakeBatch(torch.zeros(2, 3), torch.tensor([0.5, 2.0]))
    assert Head().answers(logits[:, :1], numbers).tolist() == [0.0, 1.0]
    assert float(Head().loss(logits[:, :1], numbers)) == pytest.approx((0.25 + 1) / 2)


class Largest(TorchDispatchMode):
    """Record the most positions at which any tensor of a step holds the whole vocabulary, except the head's weight."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight, self.positions = weight.untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for output in outputs if isinstance(outputs, (tuple, list)) else [outputs]:
            wide = isinstance(output, Tensor) and output.ndim > 1 and output.shape[-1] == VOCABULARY
            if wide and output.untyped_storage().data_ptr() != self.weight:
                self.positions = max(self.positions, output.numel() // VOCABULARY)
        return outputs


@pytest.mark.parametrize(
    ("encoded", "positions"),
    [(rows(None, read=Letters((7, 3, 9))), 4), (rows(read=Continuation()), 4 * (max(ANSWERS) + 1))],
    ids=["letters", "answers"],
)
def test_a_step_never_holds_the_vocabulary_at_every_position(encoded: Rows, positions: int) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=VOCABULARY, intermediate_size=32, tie_word_embeddings=False, **sizes)
    model = LlamaForCausalLM(config).train()
    model.get_input_embeddings().requires_grad_(requires_grad=False)
    model.lm_head.requires_grad_(requires_grad=False)
    with Largest(model.lm_head.weight) as largest:
        collated = batch(encoded)
        loss_of(forward(model, collated), collated).backward()
    assert largest.positions == positions
    assert positions < collated.input_ids.numel()


def test_an_evaluation_out_of_memory_continues_with_half_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = small(), []
    whole = predict(model, DATA.report, 24, FP32)
    through = evaluate.forward

    def crowded(model: nn.Module, batch: Batch) -> Tensor:
        if batch.rows > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(batch.rows)
        return through(model, batch)

    monkeypatch.setattr(evaluate, "forward", crowded)
    assert torch.equal(predict(model, DATA.report, 24, FP32), whole)
    assert max(sizes) <= 3
    assert sum(sizes) == len(DATA.report)
    monkeypatch.setattr(evaluate, "forward", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("all of it")))
    with pytest.raises(torch.OutOfMemoryError):
        predict(model, DATA.report, 24, FP32)


def test_answer_weights_sum_to_one_and_peak_at_the_prediction() -> None:
    model = small()
    predictions, weights = weigh(model, DATA.report, 24, FP32)
    assert weights is not None
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(predictions)))
    assert torch.equal(weights.argmax(-1), predictions)
    assert torch.equal(predictions, predict(model, DATA.report, 24, FP32))
