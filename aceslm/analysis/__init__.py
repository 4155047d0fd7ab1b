"""Result rows -> figures: summary, comparisons, costs, playbooks, declarations."""
