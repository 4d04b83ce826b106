"""Graft a prompt of the bank that ships onto a task with eight labelled rows a class. The README's first example."""

import promptgraft as pg

task = pg.load_task("examples/data/home_reviews")
ranking = pg.rank(task, "minilm", "starter", shots=8)
for row in ranking.rows[:3]:
    print(row.source.name, f"{row.scores['probe'].value:.2f}")

grafted = pg.transfer(task, "minilm", "starter", source=ranking.best.source.name, method="pot", shots=8)
print(grafted.best.result.scores["test"], grafted.predictor.predict(["The blade broke on day two."]))
