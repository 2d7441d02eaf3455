"""The training loop and what stands behind it.

loop.py              batch, forward, loss, backward, step, record, validate, checkpoint: read this first
records.py           what the loop yields
state.py             what the loop reads and a checkpoint holds
criterion.py         the loss; distillation.py adds a teacher's
optimizers.py        SGD to AdamW, and muon.py; schedule.py gives their learning rate
validation.py        the figures of an epoch
averaging.py         averages of the weights; freezing.py says which layers train
microbatch.py        a batch in microbatches, smaller ones where memory runs out; batch_norm_stats.py
distributed/         several processes
execution.py, cpu/   the arithmetic of a step, torch's or the fused path of a CPU
cached_features.py   the features of a frozen body
budget_schedule.py   as many steps as fit into a time
checks.py            whether a recipe fits its data; divergence.py the sentence where a training cannot go on
checkpoint.py        the state in a file; run.py and series.py folders on disk
system.py            device, precision, threads, chosen by the machine
lr_find.py           a learning rate by trial; gradient_check.py numeric against analytic gradients
"""
