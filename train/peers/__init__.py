"""How published predictors of programs are trained on a recorded world; docs/peers.md says what was changed."""
