import java.util.concurrent.ConcurrentHashMap
import org.jenkinsci.plugins.workflow.steps.FlowInterruptedException
import org.jenkinsci.plugins.workflow.steps.TimeoutStepExecution

/** One build: its configuration, its agents, what it recorded; and where each of its threads is. */
class Build {

    final Map config
    final File folder
    final Map agents = [:]
    final Map locks = new ConcurrentHashMap()
    final Set masks = Collections.newSetFromMap(new ConcurrentHashMap())
    final List events = Collections.synchronizedList([])
    String result = 'SUCCESS'

    private final ThreadLocal<Place> places = new ThreadLocal<Place>()

    Build(Map config) {
        this.config = config
        this.folder = new File(config.folder as String)
        for (Map each : config.agents) {
            agents[each.name] = new Agent(each, this)
        }
    }

    Place getPlace() {
        if (places.get() == null) {
            places.set(new Place())
        }
        return places.get()
    }

    Object at(Place place, Closure body) {
        Place before = getPlace()
        places.set(place)
        try {
            return body.call()
        } finally {
            places.set(before)
        }
    }

    long millis(int time, String unit) {
        long minute = config.minute_ms as long
        return [SECONDS: minute.intdiv(60), MINUTES: minute, HOURS: 60 * minute][unit] * time
    }

    /** Throws what interrupts this thread now, if anything does. */
    void check() {
        if (new File(folder, 'abort').exists()) {
            throw new FlowInterruptedException(new UserInterruption())
        }
        long now = System.currentTimeMillis()
        for (Map limit : getPlace().limits) {
            if (now > limit.deadline) {
                throw new FlowInterruptedException(TimeoutStepExecution.cause())
            }
        }
    }

    void say(String line) {
        String said = line
        for (String secret : masks) {
            said = said.replace(secret, '****')
        }
        for (Map limit : getPlace().limits) {
            if (limit.activity) {
                limit.deadline = System.currentTimeMillis() + limit.millis
            }
        }
        synchronized (this) {
            println('[' + getPlace().branch + '] ' + said)
        }
    }

    /** Lets the time pass for which what this thread does may say nothing. */
    void passTheSilence() {
        for (Map limit : getPlace().limits) {
            if (limit.activity) {
                limit.deadline = 0
            }
        }
    }

    void record(Map event) {
        events.add(event)
    }

    synchronized void tell(String what, String words) {
        record([(what): words])
        File beside = new File(folder, what + '.new')
        beside.setText(words, 'UTF-8')
        beside.renameTo(new File(folder, what))
    }

    void worsen(String to) {
        List order = ['SUCCESS', 'UNSTABLE', 'FAILURE', 'ABORTED']
        if (order.indexOf(to) > order.indexOf(result)) {
            result = to
        }
    }

    /** Waits until something is there, or somebody interrupts. */
    Object waitFor(Closure what) {
        while (true) {
            check()
            Object found = what.call()
            if (found) {
                return found
            }
            Thread.sleep(20)
        }
    }

}

/** The variable `currentBuild`: what a build tells of itself to whoever asks the controller; a file each. */
class CurrentBuild {

    private final Build build

    CurrentBuild(Build build) {
        this.build = build
    }

    void setDisplayName(String name) {
        build.tell('displayName', name)
    }

    void setDescription(String words) {
        build.tell('description', words)
    }

}

/** Where a thread is: its branch, agent, folder, variables and time limits. */
class Place {

    String branch = 'main'
    Agent agent
    File directory
    Map environment = [:]
    List limits = []

    Place with(Map changes) {
        Map now = [branch: branch, agent: agent, directory: directory, environment: environment, limits: limits]
        return new Place(now + changes)
    }

}
