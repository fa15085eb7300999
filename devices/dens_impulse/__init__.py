"""DENSsolutions Impulse: the program that heats, biases and feeds the specimen in a DENSsolutions holder."""
