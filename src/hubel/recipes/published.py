"""The recipes of the landmark papers, one function each.

A docstring is the claim with its source, the command, the cost, and what the recipe cannot express. `hubel recipes`
reads it; a test computes the cost anew. Where a paper is silent the value is that of the authors' or the reference
implementation, and the docstring says so. Networks of the same family are chosen with `model=`.
"""

from hubel import zoo
from hubel.recipe import Recipe

IMAGENET = 1_281_167  # training pictures of ILSVRC 2012
CIFAR = 45_000  # of 50,000; 5,000 are kept for validation (He et al. 2016, section 4.2)


def alexnet_2012(model: str = "alexnet") -> Recipe:
    """The network that started it: plateaus found by hand, colours jittered along their principal axes.

    Claim: 40.7 % top-1 and 18.2 % top-5 error on ILSVRC 2012 validation, one network, ten crops (Krizhevsky, Sutskever
        & Hinton 2012, Table 2; the settings are those of sections 4 and 5).
    Run: hubel train IMAGENET recipe=alexnet_2012
    Cost: 90 epochs x 1,281,167 pictures x 6 x 714,188,480 = 494 PFLOP; at least 319 h on two Zen 4 cores, about 79.2
        min on an A100
    Left out: biases of 1 in the deeper layers; weights drawn with deviation 0.01; the mean over ten crops. The random
        224 px crop of a 256 px picture is a random resized crop of at least that area.
    """
    return Recipe(
        model=model,
        size=224,
        fit="crop",
        epochs=90,
        batch=128,
        optimizer="momentum",
        lr=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="plateau",
        gamma=0.1,
        warmup_epochs=0.0,
        crop_scale=0.766,
        flip=True,
        pca=0.1,
    )


def vgg_2014(model: str = "vgg16") -> Recipe:
    """Depth by 3x3 convolutions alone.

    Claim: 25.6 % top-1 and 8.1 % top-5 error on ILSVRC 2012 validation, configuration D trained at scales 256 to 512,
        one scale at test (Simonyan & Zisserman 2015, Table 3; the settings are those of section 3.1).
    Run: hubel train IMAGENET recipe=vgg_2014
    Cost: 74 epochs x 1,281,167 pictures x 6 x 15,470,264,320 = 8,800 PFLOP; at least 5,680 h on two Zen 4 cores,
        about 23.5 h on an A100
    Left out: the first layers taken from a shallower network; dense evaluation. Scale jitter is a random resized crop
        of at least the area that 224 px have of 512 px.
    """
    return Recipe(
        model=model,
        size=224,
        fit="crop",
        epochs=74,
        batch=256,
        optimizer="momentum",
        lr=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="plateau",
        gamma=0.1,
        warmup_epochs=0.0,
        crop_scale=0.191,
        flip=True,
        pca=0.1,
    )


def googlenet_2014(model: str = "googlenet") -> Recipe:
    """Inception: the learning rate falls by 4 % every 8 epochs.

    Claim: 10.07 % top-5 error on ILSVRC 2014 validation, one network, one crop (Szegedy et al. 2015, Table 3; the
        settings are those of section 6).
    Run: hubel train IMAGENET recipe=googlenet_2014
    Cost: 250 epochs x 1,281,167 pictures x 6 x 1,498,376,192 = 2,880 PFLOP; at least 1,860 h on two Zen 4 cores,
        about 7.69 h on an A100
    Left out: asynchronous updates; the interpolation drawn at random. The paper gives neither first rate, batch, decay
        nor epochs: they are those of the Caffe reference (bvlc_googlenet/solver.prototxt). Polyak averaging is an
        exponential moving average.
    """
    return Recipe(
        model=model,
        size=224,
        fit="crop",
        epochs=250,
        batch=32,
        optimizer="momentum",
        lr=0.01,
        momentum=0.9,
        weight_decay=2e-4,
        ema=0.9999,
        schedule="step",
        step_epochs=8,
        gamma=0.96,
        warmup_epochs=0.0,
        crop_scale=0.08,
        flip=True,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
    )


def resnet_2015(model: str = "resnet50") -> Recipe:
    """Residual learning on ImageNet.

    Claim: 22.85 % top-1 and 6.71 % top-5 error on ILSVRC 2012 validation, ResNet-50, ten crops (He et al. 2016,
        Table 3; the settings are those of section 3.4: 600,000 steps of 256 are 120 epochs).
    Run: hubel train IMAGENET recipe=resnet_2015
    Cost: 120 epochs x 1,281,167 pictures x 6 x 4,089,184,256 = 3,770 PFLOP; at least 2,440 h on two Zen 4 cores,
        about 10.1 h on an A100
    Left out: the mean over ten crops; the subtracted mean is per channel, not per pixel. Scale jitter from 256 to 480
        is a random resized crop of at least the area that 224 px have of 480 px.
    """
    return Recipe(
        model=model,
        size=224,
        fit="crop",
        epochs=120,
        batch=256,
        optimizer="momentum",
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="plateau",
        gamma=0.1,
        warmup_epochs=0.0,
        crop_scale=0.218,
        flip=True,
        pca=0.1,
    )


def resnet_cifar(model: str = "resnet20_cifar") -> Recipe:
    """Residual learning on CIFAR-10: 64,000 steps, of which 351 are an epoch.

    Claim: 8.75 % error on CIFAR-10 test, ResNet-20; 6.43 % ResNet-110 (He et al. 2016, Table 6; the settings are those
        of section 4.2).
    Run: hubel train CIFAR10 recipe=resnet_cifar
    Cost: 182 epochs x 45,000 pictures x 6 x 40,551,040 = 1.99 PFLOP; at least 77.2 min on two Zen 4 cores, about 19.2
        s on an A100
    Left out: ResNet-110 began with a rate of 0.01 until the training error fell below 80 %, after about 400 steps;
        here its rate rises linearly over those steps. The subtracted mean is per channel, not per pixel.
    """
    steps = CIFAR // 128
    depth = int("0" + "".join(filter(str.isdigit, model.split("_")[0])))
    return Recipe(
        model=model,
        size=32,
        epochs=64_000 // steps,
        batch=128,
        val_fraction=0.1,
        optimizer="momentum",
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="multistep",
        milestones=f"{32_000 / steps:.4f},{48_000 / steps:.4f}",
        gamma=0.1,
        warmup_epochs=round(400 / steps, 4) if depth >= 110 else 0.0,
        crop_padding=4,
        flip=True,
    )


def wrn_cifar(model: str = "wrn28_10_cifar") -> Recipe:
    """Wide residual networks: the rate falls to a fifth three times.

    Claim: 4.00 % error on CIFAR-10 test, WRN-28-10, median of 5 (Zagoruyko & Komodakis 2016, section 4 and the
        authors' repository; `dropout=0.3` gives their 3.89 %).
    Run: hubel train CIFAR10 recipe=wrn_cifar
    Cost: 200 epochs x 45,000 pictures x 6 x 5,243,328,768 = 283 PFLOP; at least 183 h on two Zen 4 cores, about 45.4
        min on an A100
    Left out: the authors trained on all 50,000 pictures.
    """
    return Recipe(
        model=model,
        size=32,
        epochs=200,
        batch=128,
        val_fraction=0.1,
        optimizer="nesterov",
        lr=0.1,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="multistep",
        milestones="60,120,160",
        gamma=0.2,
        warmup_epochs=0.0,
        crop_padding=4,
        edge="reflect",
        flip=True,
    )


def densenet_cifar(model: str = "densenet_bc100_12_cifar") -> Recipe:
    """Dense connections: few parameters, many epochs, small batches.

    Claim: 4.51 % error on CIFAR-10 test with shift and mirror, DenseNet-BC with 100 layers and growth 12 (Huang et al.
        2017, Table 2; the settings are those of section 4.2).
    Run: hubel train CIFAR10 recipe=densenet_cifar
    Cost: 300 epochs x 45,000 pictures x 6 x 287,929,692 = 23.3 PFLOP; at least 15.1 h on two Zen 4 cores, about 3.74
        min on an A100
    Left out: the authors trained on all 50,000 pictures for the final figures.
    """
    return Recipe(
        model=model,
        size=32,
        epochs=300,
        batch=64,
        val_fraction=0.1,
        optimizer="nesterov",
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="multistep",
        milestones="150,225",
        gamma=0.1,
        warmup_epochs=0.0,
        crop_padding=4,
        flip=True,
    )


def mobilenet_v1(model: str = "mobilenet_v1") -> Recipe:
    """Depthwise separable convolutions: a small network wants less regularisation.

    Claim: 70.6 % top-1 on ILSVRC 2012 validation (Howard et al. 2017, Table 6; section 3.2 trains as Inception-v3 does,
        Szegedy et al. 2016, section 8).
    Run: hubel train IMAGENET recipe=mobilenet_v1
    Cost: 100 epochs x 1,281,167 pictures x 6 x 568,740,352 = 437 PFLOP; at least 282 h on two Zen 4 cores, about 70.1
        min on an A100
    Left out: asynchronous updates by 50 workers; no decay on depthwise filters alone; epsilon inside the root. The
        paper gives no decay and no smallest crop: 4e-5 is the reference's (TF-Slim), 0.3 is ours.
    """
    return Recipe(
        model=model,
        size=224,
        fit="crop",
        epochs=100,
        batch=32,
        optimizer="rmsprop",
        lr=0.045,
        momentum=0.9,
        alpha=0.9,
        eps=1.0,
        weight_decay=4e-5,
        decay_on="weights",
        clip_norm=2.0,
        ema=0.9999,
        schedule="step",
        step_epochs=2,
        gamma=0.94,
        warmup_epochs=0.0,
        crop_scale=0.3,
        flip=True,
    )


def efficientnet_2019(model: str = "efficientnet_b0") -> Recipe:
    """Compound scaling: RMSProp, an average of the weights, dropout and stochastic depth.

    Claim: 77.1 % top-1 on ILSVRC 2012 validation, EfficientNet-B0 (Tan & Le 2019, Table 2; the settings are those of
        section 5.2).
    Run: hubel train IMAGENET recipe=efficientnet_2019
    Cost: 350 epochs x 1,281,167 pictures x 6 x 385,814,752 = 1,040 PFLOP; at least 671 h on two Zen 4 cores, about
        2.77 h on an A100
    Left out: AutoAugment's learned policy. Batch, warm-up, epochs, epsilon, label smoothing and the average are not in
        the paper: they are those of the authors' code (tensorflow/tpu).
    """
    return Recipe(
        model=model,
        size=zoo.facts()[model]["input"][1],
        fit="crop",
        epochs=350,
        batch=4096,
        optimizer="rmsprop",
        lr=0.256,
        momentum=0.9,
        alpha=0.9,
        eps=1e-3,
        weight_decay=1e-5,
        decay_on="weights",
        schedule="step",
        step_epochs=2.4,
        gamma=0.97,
        warmup_epochs=5.0,
        label_smoothing=0.1,
        ema=0.9999,
        crop_scale=0.08,
        flip=True,
    )


RECIPES = {
    "alexnet_2012": alexnet_2012,
    "vgg_2014": vgg_2014,
    "googlenet_2014": googlenet_2014,
    "resnet_2015": resnet_2015,
    "resnet_cifar": resnet_cifar,
    "wrn_cifar": wrn_cifar,
    "densenet_cifar": densenet_cifar,
    "mobilenet_v1": mobilenet_v1,
    "efficientnet_2019": efficientnet_2019,
}
