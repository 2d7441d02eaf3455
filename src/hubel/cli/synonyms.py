"""What other tools call the keys, and where that is which other tools have a key for."""

# fmt: off
ALIASES = {
    "arch": "model", "batch_size": "batch", "bs": "batch", "learning_rate": "lr", "lr0": "lr", "base_lr": "lr",
    "wd": "weight_decay", "imgsz": "size", "img_size": "size", "image_size": "size", "input_size": "size",
    "in_channels": "channels", "eval_metric": "monitor", "crop_mode": "fit", "amp": "precision",
    "early_stop": "patience", "early_stopping": "patience", "early_stopping_patience": "patience",
    "workers": "threads", "num_workers": "threads", "optimiser": "optimizer", "opt": "optimizer",
    "scheduler": "schedule", "lr_schedule": "schedule", "lr_scheduler": "schedule",
    "criterion": "loss", "smoothing": "label_smoothing", "label_smooth": "label_smoothing", "clip_grad": "clip_norm",
    "grad_clip": "clip_norm", "gradient_clip_val": "clip_norm",
    "gradient_accumulation": "accumulate", "grad_accum_steps": "accumulate", "accumulate_grad_batches": "accumulate",
    "class_weights": "class_weight", "from": "weights", "pretrained": "weights", "init_weights": "weights",
    "layer_wise_decay": "layer_decay", "distill_alpha": "distill_weight", "dropout_rate": "dropout",
    "drop_rate": "dropout",
    "drop_path_rate": "drop_path", "ema_decay": "ema", "model_ema": "ema", "hflip": "flip", "random_erasing": "erasing",
    "mixup_alpha": "mixup", "cutmix_alpha": "cutmix",
    "epoch": "epochs", "num_epochs": "epochs", "n_epochs": "epochs", "max_epochs": "epochs", "max_steps": "steps",
    "val_split": "val_fraction", "validation_split": "val_fraction", "val_size": "val_fraction",
    "test_split": "test_fraction", "test_size": "test_fraction",
    "random_state": "seed", "random_seed": "seed", "manual_seed": "seed", "output_dir": "project",
    "save_dir": "project",
    "class": "target", "method": "methods", "target_layer": "layer",
}

OF_THE_NETWORK = (
    "belongs to the network: choose another one, model=NAME (see hubel models), or write your own, "
    "model=FILE.py:NAME"
)
ELSEWHERE = {
    "activation": "the activation belongs to the network: the networks of the zoo have that of their paper (most ReLU, "
                  "lenet5_paper tanh), your own any, model=FILE.py:NAME",
    "kernel_size": f"the size of a filter {OF_THE_NETWORK}",
    "hidden_size": f"the width of a layer {OF_THE_NETWORK}",
    "num_layers": f"the depth {OF_THE_NETWORK}",
    "num_classes": "the classes are those of the data",
    "shuffle": "the training pictures come in a new order in every epoch, the others as they are stored",
    "normalize": "pictures are normalised by the mean and deviation of the training pictures, or of the weights they "
                 "start from",
    "gpu": "name the device: device=cuda, device=cuda:1 or device=cpu",
    "gpus": "name the device, device=cuda, and start several processes with torchrun",
}
# fmt: on
