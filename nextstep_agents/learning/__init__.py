"""Learning on vectors: any Gymnasium or PettingZoo parallel environment, an MLP policy, and every algorithm."""
