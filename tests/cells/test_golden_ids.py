"""Fixed ids of cells, by which older records are looked up.

If this test fails, the same overrides name another cell than before, and everything that users have recorded is trained
again. Find out which part of `Cell.identity` has changed. If it should not have, restore it. If the same configuration
computes other numbers now, raise NUMERICS in bench/cells/identity.py. Then, and if data or a default in conf/ was
changed on purpose, write the new ids here, and state in CHANGELOG.md that cells were renamed and why.
"""

import pytest

from bench.config.compose import cells

IDS = {
    "method=lora": "bc9f0cdfdc",
    "method=rslora rank=64 target=qkvo": "2ddd4aafeb",
    "method=full": "b99a794f4e",
    "method=head": "bc97aee4bf",
    "method=adapter rank=16 protocol.epochs=1 protocol.train_rows=160": "b013ea06b9",
    "method=bitfit precision=bf16": "d962f1c51a",
    "method=qlora": "741e0a6b1a",
    "method=adalora protocol.steps=500 protocol.warmup_steps=20 protocol.eval_steps=50": "071493cf9d",
    "method=lora_plus optim=lion checkpointing=true protocol.tokens=4096": "7e25e9fbab",
    "method=prefix model=bert-base model.weights=random": "c0f5806c58",
    "method=lora model=tiny-llama task=quiz": "0aa2671efb",
    "method=few_shot rank=4 model=tiny-llama task=quiz": "5534066fb4",
    "method=ia3 model=tiny-llama task=quiz task.form=classify": "c38eac916d",
}


@pytest.mark.parametrize("words", IDS)
def test_a_cell_keeps_its_name(words: str) -> None:
    (cell,) = cells(["precision=fp32", *words.split()], multirun=False)
    assert cell.id == IDS[words], f"{words}: read what stands at the top of this file; the identity is {cell.identity}"
