"""Steps: one public function per workflow step."""
