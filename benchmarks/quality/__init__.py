"""How good models are that learn on, on public data, against published figures."""
