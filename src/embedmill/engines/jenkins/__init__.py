"""Worker loops as builds of one small job of a Jenkins, which somebody else's run drives."""

from embedmill.engines.jenkins.api import Jenkins, open_jenkins
from embedmill.engines.jenkins.engine import JenkinsEngine
from embedmill.engines.jenkins.observed import check_words

__all__ = ["Jenkins", "JenkinsEngine", "check_words", "open_jenkins"]
