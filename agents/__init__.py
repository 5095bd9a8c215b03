"""Who chooses a program: fixed programs, tree search, learnt policies."""
