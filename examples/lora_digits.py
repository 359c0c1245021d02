"""Fine-tune a transformer with LoRA and Hugging Face's Trainer: only the adapter travels, never the base.

    pip install transformers peft accelerate
    python examples/lora_digits.py           # outside a job: ten rounds on scikit-learn's digits

The base stands for a checkpoint that every edge has: here a tiny BERT that the script makes itself from one seed, which
reads the 64 pixels of a digit as 64 words. LoRA's matrices and the classifier are trained and travel. A fingerprint of
the base goes with them, and an edge with another base is refused.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from peft import LoraConfig, TaskType, get_peft_model
from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, Trainer, TrainingArguments

from heliograph import FederatedLearning, dataset  # Heliograph, line 1 of 3

transformers.logging.set_verbosity_error()
Samples = list[dict[str, torch.Tensor]]


def load(path: Path | None) -> tuple[Samples, Samples]:
    """Return the training samples and the test samples; in a job both are the worker's whole data set."""
    if path is not None:
        with np.load(path) as file:
            data = samples(file["x"], file["y"])
        return data, data
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return samples(x[:1400] / 16, y[:1400]), samples(x[1400:] / 16, y[1400:])


def samples(x: np.ndarray, y: np.ndarray) -> Samples:
    """Return pixels from 0 to 1 as words from 0 to 16, with their labels."""
    words, labels = torch.tensor(np.rint(x * 16), dtype=torch.long), torch.tensor(y, dtype=torch.long)
    return [{"input_ids": each, "labels": label} for each, label in zip(words, labels, strict=True)]


train, test = load(dataset())  # Heliograph, line 2 of 3; was: load(None)

torch.manual_seed(0)  # the same base at every edge
base = BertForSequenceClassification(BertConfig(
    vocab_size=17, hidden_size=48, num_hidden_layers=1, num_attention_heads=4, intermediate_size=96,
    max_position_embeddings=64, num_labels=10, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    initializer_range=0.2,  # ten times the usual: nothing has trained this base
))  # fmt: skip
adapter = LoraConfig(TaskType.SEQ_CLS, r=16, lora_alpha=16, target_modules="all-linear", modules_to_save=["classifier"])
model = get_peft_model(base, adapter)


def accuracy() -> float:
    """Return the share of test samples classified correctly."""
    model.eval()
    with torch.no_grad():
        scores = model(input_ids=torch.stack([each["input_ids"] for each in test])).logits
    return (scores.argmax(1) == torch.stack([each["labels"] for each in test])).float().mean().item()


with tempfile.TemporaryDirectory() as place:
    settings = TrainingArguments(
        place, num_train_epochs=2, per_device_train_batch_size=64, learning_rate=0.005, lr_scheduler_type="constant",
        save_strategy="no", report_to=[], disable_tqdm=True, logging_strategy="no", use_cpu=True,
    )  # fmt: skip
    for _ in FederatedLearning(model, num_samples=len(train), evaluate=accuracy).rounds(local=10):  # line 3 of 3
        trainer = Trainer(model, settings, train_dataset=train)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        print(f"accuracy {accuracy():.3f}")
