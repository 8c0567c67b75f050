"""What a target brings with it: loss, activation, decoding, metrics and which direction is better."""
