"""What came before convolutional networks: hand-made features, linear classifiers, nearest neighbours, a perceptron.

features.py     colour histogram, HOG, raw pixels
bag_of_words.py bag of visual words
classifiers.py  linear, k-NN, MLP, each with its one setting chosen on the validation part
templates.py    what a linear classifier of pixels looks for, as pictures
baselines.py    all of them, one after the other, on the same splits
"""

from hubel.classic.baselines import METHODS, Fitted, Result, baselines

__all__ = ["METHODS", "Fitted", "Result", "baselines"]
