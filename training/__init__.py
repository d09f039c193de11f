"""The thin consumer of stores: models, training, evaluation."""
