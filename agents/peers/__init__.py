"""Published predictors of programs as agents, on the LLM's own early states; docs/peers.md says what was changed."""
