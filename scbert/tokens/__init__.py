"""Tokens: from counts to a store of tokens, one way for every door; never torch."""
