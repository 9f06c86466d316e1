"""Disk to samples: packs of photos, phrases read off their masks, synthetic scenes."""
