"""How an image, or the rates it predicts, is compared with what is known."""
