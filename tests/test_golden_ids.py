"""The names of cells, written out: records of last month are found by them.

Where this fails, the same words name another cell than before, and all that users have recorded is trained again.
Find out which part of `Cell.identity` has changed. If it should not have, restore it. If the same configuration
computes other numbers now, raise NUMERICS in bench/identity.py. Then, and where data or a default in conf/ was changed
on purpose, write the new ids down here, and say in CHANGELOG.md that cells were renamed, and why.
"""

import pytest

from bench.grid import cells

IDS = {
    "method=lora": "25385e24c7",
    "method=rslora rank=64 target=qkvo": "e10ae2dec5",
    "method=full": "da394f68f7",
    "method=head": "083de44d77",
    "method=adapter rank=16 protocol.epochs=1 protocol.train_rows=160": "7d77f542b5",
    "method=bitfit precision=bf16": "6f1e189558",
    "method=qlora": "07ac9b0428",
    "method=adalora protocol.steps=500 protocol.warmup_steps=20 protocol.eval_steps=50": "3681fe46c3",
    "method=lora_plus optim=lion checkpointing=true protocol.tokens=4096": "36f3365367",
    "method=prefix model=bert-base model.weights=random": "9ef7111e9e",
    "method=lora model=tiny-llama task=quiz": "45b9f00e40",
    "method=few_shot rank=4 model=tiny-llama task=quiz": "fa116d758f",
    "method=ia3 model=tiny-llama task=quiz task.form=classify": "bc91fc5891",
}


@pytest.mark.parametrize("words", IDS)
def test_a_cell_keeps_its_name(words: str) -> None:
    (cell,) = cells(["precision=fp32", *words.split()], multirun=False)
    assert cell.id == IDS[words], f"{words}: read what stands at the top of this file; the identity is {cell.identity}"
