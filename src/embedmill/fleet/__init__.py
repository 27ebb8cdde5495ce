"""The GPU servers: probed, judged idle or busy with the reason, matched to an image, leased, handed back."""
