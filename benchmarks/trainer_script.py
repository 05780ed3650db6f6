"""A training as a user of transformers and PEFT writes it: one process per learning rate, seed, rank and target."""

import argparse
import csv
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--rank", type=int, required=True)
parser.add_argument("--targets", nargs="+", required=True)
parser.add_argument("--batch", type=int, required=True)
parser.add_argument("--bf16", action="store_true")
args = parser.parse_args()

tokenizer = AutoTokenizer.from_pretrained(args.model)


def read(name: str) -> Dataset:
    with (args.data / name).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    encoded = tokenizer([row["sentence"] for row in rows], truncation=True, max_length=128)
    return Dataset.from_dict({**encoded, "labels": [int(row["label"]) for row in rows]})


set_seed(args.seed)
model = AutoModelForSequenceClassification.from_pretrained(
    args.model, num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
)
lora = LoraConfig(task_type=TaskType.SEQ_CLS, r=args.rank, lora_alpha=args.rank, target_modules=args.targets)
arguments = TrainingArguments(
    output_dir=str(args.data / "trainer"),
    num_train_epochs=1,
    per_device_train_batch_size=args.batch,
    per_device_eval_batch_size=128,
    learning_rate=args.lr,
    weight_decay=0.01,
    warmup_steps=1,
    use_cpu=True,
    bf16=args.bf16,
    report_to=[],
    save_strategy="no",
    disable_tqdm=True,
    seed=args.seed,
)
trainer = Trainer(
    model=get_peft_model(model, lora), args=arguments, train_dataset=read("train.tsv"), processing_class=tokenizer
)
trainer.train()
predicted = trainer.predict(read("dev.tsv"))
print("accuracy", float((predicted.predictions.argmax(-1) == predicted.label_ids).mean()))
