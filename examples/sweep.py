"""A sweep on this machine: a classifier on every task, with every seed and learning rate; mean ± std over seeds."""

from typing import Any

from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import flaregate as fg

TASKS: dict[str, Any] = {"cancer": load_breast_cancer, "digits": load_digits, "wine": load_wine}


def train(task: str, seed: int, lr: float) -> dict[str, float]:
    """One cell: fit on two thirds of the rows, report the accuracy after each epoch, leave the model."""
    rows, labels = TASKS[task](return_X_y=True)
    parts = train_test_split(rows, labels, test_size=1 / 3, random_state=seed)
    scaler = StandardScaler().fit(parts[0])
    train_rows, test_rows = scaler.transform(parts[0]), scaler.transform(parts[1])
    model = SGDClassifier(learning_rate="constant", eta0=lr, random_state=seed)
    for epoch in range(5):
        model.partial_fit(train_rows, parts[2], classes=sorted(set(labels)))
        fg.report(epoch, accuracy=model.score(test_rows, parts[3]))
    fg.artifact("model", make_pipeline(scaler, model))
    return {"accuracy": model.score(test_rows, parts[3])}


if __name__ == "__main__":
    with fg.Client() as client:
        axes = {"task": list(TASKS), "seed": range(3), "lr": [0.001, 0.1]}
        job = client.sweep(train, axes=axes, best="max:accuracy", workers=0)
        result = job.result()
        print(result.table(group_by=["task", "lr"]).to_string())
        best = result.best
        print("best cell", best.candidate, best.axes, best.metrics)
        rows, labels = TASKS[best.axes["task"]](return_X_y=True)
        model = fg.ref(f"job:{job.id}/model-{best.candidate}")
        found = client.submit(model, action="predict", X=rows, workers=0).result().outputs[0]
        print(f"it labels {(found == labels).mean():.1%} of all rows as they are")
