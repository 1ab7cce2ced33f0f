"""The layers of the network, its weights and what their shapes depend on."""
