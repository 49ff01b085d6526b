//! A real browser, driven over its debugging pipe: messages in JSON, each ended by a NUL.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long the browser may take for anything.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where the browser is: `CHROMIUM`, or one of these names on the path.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return Some(PathBuf::from(path));
    }
    let paths = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&paths).collect();
    let mut all = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    all.find(|path| path.is_file())
}

/// One tab of a browser of its own.
pub(crate) struct Browser {
    child: Child,
    to: File,
    from: Receiver<Value>,
    session: String,
    last_id: u64,
    events: VecDeque<Value>,
    /// What the console of the tab has complained about.
    pub(crate) complaints: Vec<String>,
    _folder: TempDir,
}

impl Browser {
    /// `None`, said plainly, where there is no browser.
    pub(crate) fn start() -> Option<Self> {
        let Some(program) = find() else {
            println!("SKIPPED: the console in a real browser: no chromium (PATH or CHROMIUM)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        for pipe in [&input, &output] {
            assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        }
        let child = Command::new("sh")
            .arg("-c")
            .arg("exec \"$0\" \"$@\" 3<\"$PIPE_IN\" 4>\"$PIPE_OUT\"")
            .arg(program)
            .args(["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .env("PIPE_IN", &input)
            .env("PIPE_OUT", &output)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // In the order in which the shell opens the other ends.
        let to = OpenOptions::new().write(true).open(&input).unwrap();
        let from = listen(File::open(&output).unwrap());
        let mut browser = Self {
            child,
            to,
            from,
            session: String::new(),
            last_id: 0,
            events: VecDeque::new(),
            complaints: Vec::new(),
            _folder: folder,
        };
        let tab = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": tab["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach);
        attached["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        for domain in ["Page", "Runtime", "Log", "Audits"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    fn receive(&mut self) -> Value {
        self.from.recv_timeout(PATIENCE).expect("the browser answers")
    }

    /// Calls a method of the tab, or of the browser before there is one.
    pub(crate) fn call(&mut self, method: &str, params: impl Into<Value>) -> Value {
        self.last_id += 1;
        let params: Value = params.into();
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = Value::String(self.session.clone());
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).unwrap();
        loop {
            let answer = self.receive();
            if answer["id"] == json!(self.last_id) {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.note(answer);
        }
    }

    fn note(&mut self, event: Value) {
        let complaint = match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => true,
            // A click of a script is no click of a person: of that it tells, too.
            "Audits.issueAdded" => !event.to_string().contains("NavigationEntryMarkedSkippable"),
            "Runtime.consoleAPICalled" => event["params"]["type"] == "error",
            "Log.entryAdded" => event["params"]["entry"]["level"] == "error",
            _ => false,
        };
        if complaint {
            self.complaints.push(event["params"].to_string());
        }
        self.events.push_back(event);
    }

    /// From now on a page is waited for that comes by itself.
    pub(crate) fn expect_page(&mut self) {
        self.events.clear();
    }

    /// Waits until the tab has loaded a page.
    pub(crate) fn loaded(&mut self) {
        loop {
            while let Some(event) = self.events.pop_front() {
                if event["method"] == "Page.loadEventFired" {
                    return;
                }
            }
            let event = self.receive();
            self.note(event);
        }
    }

    pub(crate) fn open(&mut self, address: &str) {
        self.events.clear();
        let went = self.call("Page.navigate", json!({ "url": address }));
        assert!(went.get("errorText").is_none(), "{address}: {went}");
        self.loaded();
    }

    /// The value of an expression, awaited.
    pub(crate) fn evaluate(&mut self, script: &str) -> Value {
        let params = json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", params);
        assert!(result.get("exceptionDetails").is_none(), "{script}: {result}");
        result["result"]["value"].clone()
    }

    /// The text of the page as it is seen.
    pub(crate) fn text(&mut self) -> String {
        self.evaluate("document.body.innerText").as_str().unwrap().to_owned()
    }

    /// Clicks what leads to another page, and waits for it.
    pub(crate) fn click(&mut self, selector: &str) {
        self.events.clear();
        let selector = Value::from(selector);
        self.evaluate(&format!("document.querySelector({selector}).click(), 0"));
        self.loaded();
    }

    /// Clicks the link or button with this text.
    pub(crate) fn click_text(&mut self, text: &str) {
        self.events.clear();
        let text = Value::from(text);
        let found = format!(
            "Array.from(document.querySelectorAll('a,button')).find(e => e.innerText.trim() === {text})"
        );
        self.evaluate(&format!("({found}).click(), 0"));
        self.loaded();
    }

    /// Types into a field.
    pub(crate) fn fill(&mut self, selector: &str, text: &str) {
        let (selector, text) = (Value::from(selector), Value::from(text));
        self.evaluate(&format!("document.querySelector({selector}).value = {text}, 0"));
    }

    /// Presses a key as a person does.
    pub(crate) fn press(&mut self, key: &str, code: u32) {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let params =
                json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code, "text": text });
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// Presses Enter on what has the focus, and waits for the page that it leads to.
    pub(crate) fn enter(&mut self) {
        self.events.clear();
        self.press("Enter", 13);
        self.loaded();
    }

    /// Waits until an expression holds, looking whenever the page changes.
    pub(crate) fn wait_for(&mut self, condition: &str) {
        self.evaluate(&format!(
            "new Promise(done => {{
               const look = () => {{ if ({condition}) done(true); }};
               new MutationObserver(look).observe(document, {{
                 subtree: true, childList: true, characterData: true, attributes: true }});
               look();
             }})"
        ));
    }

    /// The size of the window, and whether the system is dark.
    pub(crate) fn look_as(&mut self, width: u32, height: u32, dark: bool) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Keeps a picture of the whole page, where somebody asked for pictures (`CONSOLE_SCREENSHOTS`).
    pub(crate) fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("CONSOLE_SCREENSHOTS") else { return };
        let params = json!({ "format": "png", "captureBeyondViewport": true });
        let taken = self.call("Page.captureScreenshot", params);
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(taken["data"].as_str().unwrap())
            .unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn listen(pipe: File) -> Receiver<Value> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while pipe.read_until(0, &mut bytes).is_ok_and(|read| read > 0) {
            bytes.pop();
            let Ok(message) = serde_json::from_slice(&bytes) else { break };
            if sender.send(message).is_err() {
                break;
            }
            bytes.clear();
        }
    });
    receiver
}
