"""Train a PyTorch model on digits, and export it to one ONNX file: a service serves it without a script.

    pip install 'heliograph[examples]'
    python examples/onnx_digits.py          # writes digits.onnx

The model takes what the camera of ``device_inference.py`` sends: 8 × 8 pixels of brightness from 0 to 255.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn

images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images.reshape(-1, 8, 8) / 16 * 255, dtype=torch.float32), torch.tensor(labels)

torch.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(100):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x[:1400]), y[:1400]).backward()
    optimizer.step()

model.eval()
print(f"accuracy {(model(x[1400:]).argmax(1) == y[1400:]).float().mean():.3f}")
torch.onnx.export(
    model, (x[:2],), "digits.onnx", input_names=["pixels"], output_names=["scores"],
    dynamic_shapes=({0: torch.export.Dim("batch")},),  # else it takes batches of two alone
    external_data=False, verbose=False,  # a model of a service is one file
)  # fmt: skip
