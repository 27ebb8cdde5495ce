"""Files that let a Jenkins carry pipelines over the GPU servers of a fleet, and what its stages call."""

from embedmill.deploy.jenkins.folders import deploy_jenkins
from embedmill.deploy.jenkins.settings import JenkinsSettings

__all__ = ["JenkinsSettings", "deploy_jenkins"]
